//! Pure. Field names that mean something to a proxy, and the syntax of their values.
//!
//! Names are told apart by length first, so that a field we have no business with costs one comparison.

/// What a proxy in front says of a client certificate that it has verified (RFC 9440; Envoy).
pub const CLIENT_CERTIFICATES: [&str; 3] =
    ["client-cert", "client-cert-chain", "x-forwarded-client-cert"];

/// A field name that a proxy acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// One of [`CLIENT_CERTIFICATES`].
    ClientCertificate,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Expect`.
    Expect,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `X-Forwarded-Host`.
    ForwardedHost,
    /// `X-Forwarded-Proto`.
    ForwardedProto,
    /// Fields for one hop only that a proxy drops: `Proxy-Connection`, `HTTP2-Settings`, `Proxy-Authenticate`,
    /// `Proxy-Authorization`, `Proxy-Authentication-Info`.
    HopByHop,
    /// `Host`.
    Host,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Content_Length` or `Transfer_Encoding`: gateways that map names to variables take them for the real ones.
    LookAlike,
    /// None of our business.
    Other,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `User-Agent`.
    UserAgent,
}

// === impl Field ===

impl Field {
    /// Which field `name` is, in any case.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            2 if is("te") => Self::Te,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("trailer") => Self::Trailer,
            7 if is("upgrade") => Self::Upgrade,
            9 if is("forwarded") => Self::Forwarded,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::KeepAlive,
            10 if is("user-agent") => Self::UserAgent,
            11 if is("client-cert") => Self::ClientCertificate,
            14 if is("content-length") => Self::ContentLength,
            14 if is("content_length") => Self::LookAlike,
            14 if is("http2-settings") => Self::HopByHop,
            15 if is("x-forwarded-for") => Self::ForwardedFor,
            16 if is("x-forwarded-host") => Self::ForwardedHost,
            16 if is("proxy-connection") => Self::HopByHop,
            17 if is("transfer-encoding") => Self::TransferEncoding,
            17 if is("x-forwarded-proto") => Self::ForwardedProto,
            17 if is("client-cert-chain") => Self::ClientCertificate,
            17 if is("transfer_encoding") => Self::LookAlike,
            18 if is("proxy-authenticate") => Self::HopByHop,
            19 if is("proxy-authorization") => Self::HopByHop,
            23 if is("x-forwarded-client-cert") => Self::ClientCertificate,
            25 if is("proxy-authentication-info") => Self::HopByHop,
            _ => Self::Other,
        }
    }
}

/// The members of a comma-separated list, trimmed, empty ones left out (RFC 9110 §5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// `1*DIGIT` that fits 64 bits (RFC 9110 §8.6): no sign, no list, not empty.
#[must_use]
pub fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether `value` is a `Host` or authority without the bytes that would end it or split it for some reader: userinfo, paths,
/// lists and spaces (RFC 3986 §3.2.2, RFC 9112 §3.2).
#[must_use]
pub fn is_authority(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(byte))
}

/// Field names that must not come as a trailer: they frame, route or describe the body (RFC 9110 §6.5.1).
#[must_use]
pub fn is_forbidden_trailer(name: &str) -> bool {
    const FORBIDDEN: [&str; 15] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "date",
        "max-forwards",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "www-authenticate",
        "if-match",
        "if-none-match",
    ];
    Field::of(name) != Field::Other
        || FORBIDDEN.iter().any(|known| name.eq_ignore_ascii_case(known))
}
