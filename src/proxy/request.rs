//! Pure. One request head: read strictly, once, into borrowed parts.
//!
//! httparse reads the syntax. What it lets pass and we do not: line ends without CR, more than one way to read
//! the body's length, more or less than one `Host`, targets that are not origin-, absolute- or asterisk-form.
//!
//! Not here: what is sent on ([`super::headers`]).

use std::mem::MaybeUninit;

use httparse::Header;

use super::{
    error::Fault,
    fields::{Field, decimal, is_authority, list},
    framing::Framing,
};

/// The longest request target we take, in bytes: twice what browsers and servers agree on (RFC 9112 §3 asks for
/// 8,000 at least).
pub const MAX_TARGET: usize = 8 * 1024;

/// Field lines that are parsed without an allocation; larger limits take a vector.
const INLINE_FIELDS: usize = 100;

/// The limits a head must keep.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, from the first to the empty line.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

/// A request head whose meaning is settled.
#[derive(Debug)]
pub struct Request<'h, 'b> {
    /// The method, as sent.
    pub method: &'b str,
    /// The target in origin-form or `*`. It begins with `?` if it came in absolute-form with an empty path.
    pub target: &'b str,
    /// The authority: from the target in absolute-form, else from `Host`.
    pub host: Option<&'b [u8]>,
    /// Whether the client speaks HTTP/1.1; else HTTP/1.0.
    pub http11: bool,
    /// All field lines, in order.
    pub fields: &'h [Header<'b>],
    /// Field names that `Connection` lines name besides the well-known ones.
    pub nominated: Vec<&'b [u8]>,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the client will send another request on this connection.
    pub persistent: bool,
    /// Whether the client waits for 100 before it sends its body.
    pub expects_continue: bool,
    /// The protocols the client offers to switch to, `h2c` left out.
    pub upgrade: Option<Vec<&'b [u8]>>,
    /// Whether the client takes trailers.
    pub takes_trailers: bool,
    /// `User-Agent`, if sent.
    pub user_agent: &'b [u8],
}

/// What was found in the bytes so far.
#[derive(Debug)]
pub enum Parsed<T> {
    /// A whole head of this many bytes.
    Whole(usize, T),
    /// The head goes on.
    Partial,
}

/// Reads a request head from the front of `bytes` and hands it to `then`.
///
/// # Errors
/// The fault to answer with; the connection can't be used after it.
pub fn parse<T>(
    bytes: &[u8],
    limits: HeadLimits,
    then: impl FnOnce(usize, &Request<'_, '_>) -> Result<T, Fault>,
) -> Result<Parsed<T>, Fault> {
    if limits.fields <= INLINE_FIELDS {
        let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; INLINE_FIELDS];
        parse_into(bytes, limits, &mut lines[..limits.fields], then)
    } else {
        let mut lines = vec![MaybeUninit::<Header<'_>>::uninit(); limits.fields];
        parse_into(bytes, limits, &mut lines, then)
    }
}

fn parse_into<'b, T>(
    bytes: &'b [u8],
    limits: HeadLimits,
    lines: &mut [MaybeUninit<Header<'b>>],
    then: impl FnOnce(usize, &Request<'_, '_>) -> Result<T, Fault>,
) -> Result<Parsed<T>, Fault> {
    let mut raw = httparse::Request::new(&mut []);
    match raw.parse_with_uninit_headers(bytes, lines) {
        Ok(httparse::Status::Complete(length)) => {
            if length > limits.bytes {
                return Err(Fault::HeadersTooLarge);
            }
            check_line_ends(&bytes[..length])?;
            let request = Request::settle(raw)?;
            then(length, &request).map(|made| Parsed::Whole(length, made))
        }
        Ok(httparse::Status::Partial) => partial(bytes, limits).map(|()| Parsed::Partial),
        Err(httparse::Error::TooManyHeaders) => Err(Fault::HeadersTooLarge),
        Err(error) => Err(Fault::BadRequest(describe(error))),
    }
}

/// Refuses a head that can't become acceptable any more.
fn partial(bytes: &[u8], limits: HeadLimits) -> Result<(), Fault> {
    if memchr::memchr(b'\n', bytes).is_none()
        && bytes.len() > MAX_TARGET + "OPTIONS  HTTP/1.1".len()
    {
        return Err(Fault::TargetTooLong);
    }
    if bytes.len() >= limits.bytes {
        return Err(Fault::HeadersTooLarge);
    }
    Ok(())
}

/// A line end without CR is taken by some readers and not by others; RFC 9112 §2.2 lets a recipient choose.
pub(super) fn check_line_ends(head: &[u8]) -> Result<(), Fault> {
    // Empty lines before the request line are allowed (RFC 9112 §2.2), but by httparse only.
    let bare = memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r');
    if bare { Err(Fault::BadRequest("line end without CR")) } else { Ok(()) }
}

const fn describe(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "invalid field name",
        httparse::Error::HeaderValue => "invalid field value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status",
        httparse::Error::Token => "invalid request line",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "version is not HTTP/1.0 or HTTP/1.1",
    }
}

// === impl Request ===

impl<'h, 'b> Request<'h, 'b> {
    /// Settles the meaning of a head whose syntax has been read.
    ///
    /// # Errors
    /// The fault to answer with.
    pub fn settle(raw: httparse::Request<'h, 'b>) -> Result<Self, Fault> {
        let http11 = raw.version == Some(1);
        let mut request = Self {
            method: raw.method.unwrap_or_default(),
            target: raw.path.unwrap_or_default(),
            host: None,
            http11,
            fields: raw.headers,
            nominated: Vec::new(),
            framing: Framing::None,
            persistent: http11,
            expects_continue: false,
            upgrade: None,
            takes_trailers: false,
            user_agent: b"",
        };
        if request.method == "CONNECT" {
            return Err(Fault::Connect);
        }
        let mut notes = Notes::default();
        for field in request.fields {
            notes.read(field, &mut request.nominated)?;
        }
        request.settle_target(notes.host)?;
        request.settle_body(&notes)?;
        request.settle_connection(&notes);
        Ok(request)
    }

    /// RFC 9112 §3.2: origin-form, absolute-form and `*`; exactly one valid `Host` in HTTP/1.1.
    fn settle_target(&mut self, host: Option<&'b [u8]>) -> Result<(), Fault> {
        if self.target.len() > MAX_TARGET {
            return Err(Fault::TargetTooLong);
        }
        if self.target.contains('#') {
            return Err(Fault::BadRequest("fragment in request target"));
        }
        if host.is_none() && self.http11 {
            return Err(Fault::BadRequest("Host is missing"));
        }
        if host.is_some_and(|host| !is_authority(host)) {
            return Err(Fault::BadRequest("Host is not an authority"));
        }
        self.host = host;
        if self.target.starts_with('/') || (self.target == "*" && self.method == "OPTIONS") {
            return Ok(());
        }
        let Some((authority, path)) = absolute_form(self.target) else {
            return Err(Fault::BadRequest("request target is not a path"));
        };
        if authority.is_empty() || !is_authority(authority.as_bytes()) {
            return Err(Fault::BadRequest("request target has no valid authority"));
        }
        // RFC 9112 §3.2.2: the target's authority wins over Host.
        self.host = Some(authority.as_bytes());
        self.target = match path {
            "" if self.method == "OPTIONS" => "*",
            "" => "/",
            path => path,
        };
        Ok(())
    }

    /// RFC 9112 §6.3, without its leniency: two ways to read the length are one too many.
    fn settle_body(&mut self, notes: &Notes<'b>) -> Result<(), Fault> {
        self.framing = match (notes.chunked, notes.length) {
            (true, Some(_)) => {
                return Err(Fault::BadRequest("both Transfer-Encoding and Content-Length"));
            }
            (true, None) if !self.http11 => {
                return Err(Fault::BadRequest("Transfer-Encoding in HTTP/1.0"));
            }
            (true, None) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        // An expectation of an HTTP/1.0 client is ignored (RFC 9110 §10.1.1), one without a body is moot.
        self.expects_continue = notes.expects_continue && self.http11 && self.has_body();
        Ok(())
    }

    fn settle_connection(&mut self, notes: &Notes<'b>) {
        self.persistent = self.http11 && !notes.close;
        self.user_agent = notes.user_agent;
        self.takes_trailers = notes.takes_trailers;
        if self.http11 && notes.wants_upgrade && !notes.upgrade.is_empty() {
            self.upgrade = Some(notes.upgrade.clone());
        }
    }

    /// Whether bytes follow the head.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Whether the request may be sent again (RFC 9110 §9.2.2).
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
    }
}

/// Splits `http://authority/path?query`; the path may be empty.
fn absolute_form(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Some((authority, path))
}

/// What the field lines say, before it is weighed.
#[derive(Debug, Default)]
struct Notes<'b> {
    host: Option<&'b [u8]>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    wants_upgrade: bool,
    upgrade: Vec<&'b [u8]>,
    expects_continue: bool,
    takes_trailers: bool,
    user_agent: &'b [u8],
}

// === impl Notes ===

impl<'b> Notes<'b> {
    fn read(&mut self, field: &Header<'b>, nominated: &mut Vec<&'b [u8]>) -> Result<(), Fault> {
        let value = field.value;
        match Field::of(field.name) {
            Field::Host if self.host.is_some() => {
                return Err(Fault::BadRequest("more than one Host"));
            }
            Field::Host => self.host = Some(value),
            Field::ContentLength => self.content_length(value)?,
            Field::TransferEncoding if self.chunked => {
                return Err(Fault::BadRequest("more than one Transfer-Encoding"));
            }
            Field::TransferEncoding if !value.eq_ignore_ascii_case(b"chunked") => {
                return Err(Fault::BadRequest("Transfer-Encoding is not chunked alone"));
            }
            Field::TransferEncoding => self.chunked = true,
            Field::Connection => self.connection(value, nominated),
            Field::Expect if value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true
            }
            Field::Expect => return Err(Fault::Expectation),
            Field::LookAlike => {
                return Err(Fault::BadRequest(
                    "field name with underscore that reads like framing",
                ));
            }
            Field::Te => {
                self.takes_trailers |= list(value).any(|te| te.eq_ignore_ascii_case(b"trailers"))
            }
            Field::Upgrade => self.upgrade.extend(list(value).filter(|offer| !is_h2c(offer))),
            Field::UserAgent => self.user_agent = value,
            Field::ClientCertificate
            | Field::Forwarded
            | Field::ForwardedFor
            | Field::ForwardedHost
            | Field::ForwardedProto
            | Field::HopByHop
            | Field::KeepAlive
            | Field::Other
            | Field::Trailer => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let Some(length) = decimal(value) else {
            return Err(Fault::BadRequest("Content-Length is not a number"));
        };
        if self.length.is_some_and(|earlier| earlier != length) {
            return Err(Fault::BadRequest("Content-Length lines differ"));
        }
        self.length = Some(length);
        Ok(())
    }

    fn connection(&mut self, value: &'b [u8], nominated: &mut Vec<&'b [u8]>) {
        for token in list(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                self.wants_upgrade = true;
            } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                nominated.push(token);
            }
        }
    }
}

/// HTTP/2 by upgrade is obsolete (RFC 9113 §3.1) and a way around the proxy; with or without a version.
fn is_h2c(offer: &[u8]) -> bool {
    let name = offer.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"h2c")
}

#[cfg(test)]
mod tests;
