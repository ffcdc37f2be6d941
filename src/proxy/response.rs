//! Pure. One response head of the app: read into borrowed parts, its body's framing settled (RFC 9112 §6.3).
//!
//! Not here: what the client is told ([`super::headers`], [`super::keep_alive`]).

use std::{mem::MaybeUninit, time::Duration};

use httparse::Header;

use super::{
    error::Fault,
    fields::{Field, decimal, list},
    framing::Framing,
    request::{HeadLimits, Parsed},
};

/// Field lines that are parsed without an allocation; larger limits take a vector.
const INLINE_FIELDS: usize = 100;

/// A response head whose meaning is settled.
#[derive(Debug)]
pub struct Response<'h, 'b> {
    /// The status code.
    pub status: u16,
    /// The reason phrase, as sent.
    pub reason: &'b str,
    /// All field lines, in order.
    pub fields: &'h [Header<'b>],
    /// Field names that `Connection` lines name besides the well-known ones.
    pub nominated: Vec<&'b [u8]>,
    /// How the body is delimited.
    pub framing: Framing,
    /// The length the app declared, also where no body follows (HEAD, 304).
    pub declared_length: Option<u64>,
    /// Whether the connection to the app can carry another request after this response.
    pub persistent: bool,
    /// `Keep-Alive: timeout=…` of the app.
    pub keep_alive_timeout: Option<Duration>,
}

/// Reads a response head from the front of `bytes` and hands it to `then`.
///
/// `to_head` says whether the request was HEAD, whose responses have no body.
///
/// # Errors
/// [`Fault::BadUpstream`]: what the app sent is not a response, or can be read in two ways.
pub fn parse<T>(
    bytes: &[u8],
    limits: HeadLimits,
    to_head: bool,
    then: impl FnOnce(usize, &Response<'_, '_>) -> Result<T, Fault>,
) -> Result<Parsed<T>, Fault> {
    if limits.fields <= INLINE_FIELDS {
        let mut lines = [const { MaybeUninit::<Header<'_>>::uninit() }; INLINE_FIELDS];
        parse_into(bytes, limits, to_head, &mut lines[..limits.fields], then)
    } else {
        let mut lines = vec![MaybeUninit::<Header<'_>>::uninit(); limits.fields];
        parse_into(bytes, limits, to_head, &mut lines, then)
    }
}

fn parse_into<'b, T>(
    bytes: &'b [u8],
    limits: HeadLimits,
    to_head: bool,
    lines: &mut [MaybeUninit<Header<'b>>],
    then: impl FnOnce(usize, &Response<'_, '_>) -> Result<T, Fault>,
) -> Result<Parsed<T>, Fault> {
    let mut raw = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut raw, bytes, lines) {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => {
            let response = Response::settle(raw, to_head)?;
            then(length, &response).map(|made| Parsed::Whole(length, made))
        }
        Ok(httparse::Status::Partial) if bytes.len() < limits.bytes => Ok(Parsed::Partial),
        Ok(_) => Err(Fault::BadUpstream("its response head is too large")),
        Err(httparse::Error::TooManyHeaders) => {
            Err(Fault::BadUpstream("its response head has too many fields"))
        }
        Err(_) => Err(Fault::BadUpstream("its response head is not HTTP/1")),
    }
}

// === impl Response ===

impl<'h, 'b> Response<'h, 'b> {
    fn settle(raw: httparse::Response<'h, 'b>, to_head: bool) -> Result<Self, Fault> {
        let mut response = Self {
            status: raw.code.unwrap_or_default(),
            reason: raw.reason.unwrap_or_default(),
            fields: raw.headers,
            nominated: Vec::new(),
            framing: Framing::UntilClose,
            declared_length: None,
            persistent: raw.version == Some(1),
            keep_alive_timeout: None,
        };
        if response.status < 100 {
            return Err(Fault::BadUpstream("its status is below 100"));
        }
        let (mut chunked, mut says) = (false, Says::default());
        for field in response.fields {
            match Field::of(field.name) {
                Field::ContentLength => response.content_length(field.value)?,
                Field::TransferEncoding
                    if chunked || !field.value.eq_ignore_ascii_case(b"chunked") =>
                {
                    return Err(Fault::BadUpstream("its Transfer-Encoding is not chunked alone"));
                }
                Field::TransferEncoding => chunked = true,
                Field::Connection => response.connection(field.value, &mut says),
                Field::KeepAlive => response.keep_alive_timeout = timeout(field.value),
                Field::Expect
                | Field::ClientCertificate
                | Field::Forwarded
                | Field::ForwardedFor
                | Field::ForwardedHost
                | Field::ForwardedProto
                | Field::HopByHop
                | Field::Host
                | Field::LookAlike
                | Field::Other
                | Field::Te
                | Field::Trailer
                | Field::Upgrade
                | Field::UserAgent => {}
            }
        }
        // An HTTP/1.0 app that keeps the connection says so (RFC 9112 §9.3); a close beside it wins.
        response.persistent = !says.close && (response.persistent || says.keep_alive);
        response.settle_body(chunked, to_head);
        Ok(response)
    }

    fn settle_body(&mut self, chunked: bool, to_head: bool) {
        let bodiless = to_head || matches!(self.status, 100..=199 | 204 | 304);
        self.framing = match (bodiless, chunked, self.declared_length) {
            (true, _, _) => Framing::None,
            (false, true, Some(_)) => {
                // Transfer-Encoding wins, but who sends both can't be trusted with a second response.
                self.declared_length = None;
                self.persistent = false;
                Framing::Chunked
            }
            (false, true, None) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => {
                self.persistent = false;
                Framing::UntilClose
            }
        };
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let Some(length) = decimal(value) else {
            return Err(Fault::BadUpstream("its Content-Length is not a number"));
        };
        if self.declared_length.is_some_and(|earlier| earlier != length) {
            return Err(Fault::BadUpstream("its Content-Length lines differ"));
        }
        self.declared_length = Some(length);
        Ok(())
    }

    fn connection(&mut self, value: &'b [u8], says: &mut Says) {
        for token in list(value) {
            if token.eq_ignore_ascii_case(b"close") {
                says.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                says.keep_alive = true;
            } else if !token.eq_ignore_ascii_case(b"upgrade") {
                self.nominated.push(token);
            }
        }
    }
}

/// What `Connection` lines say about the connection.
#[derive(Debug, Default)]
struct Says {
    close: bool,
    keep_alive: bool,
}

/// The `timeout` parameter of a `Keep-Alive` value, in seconds.
fn timeout(value: &[u8]) -> Option<Duration> {
    list(value).find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked("timeout=".len())?;
        name.eq_ignore_ascii_case(b"timeout=").then(|| decimal(seconds).map(Duration::from_secs))?
    })
}

#[cfg(test)]
mod tests;
