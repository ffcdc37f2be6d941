//! An exchange with the app that is read and written like a connection of its own and is none: one stream of many.
//!
//! Not here: any such exchange. The one over HTTP/2 is in [`crate::proxy::upstream`].

use std::{
    fmt, io,
    task::{Context, Poll},
};

use tokio::io::ReadBuf;

use crate::proxy::error::Fault;

/// One request and its response, both in HTTP/1.1 for whoever holds it.
pub(in crate::proxy) trait Exchange: fmt::Debug {
    /// Reads what is there of the response; nothing is the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Takes bytes of the request, first its whole head. After `Pending` the same bytes must come again.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Why there is no response, if the other protocol told.
    fn failure(&self) -> Option<Failure>;

    /// Takes what may still come once the response is complete for HTTP/1.1.
    fn finish(self: Box<Self>);
}

/// What HTTP/1.1 has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Failure {
    /// Answer in the app's place.
    Fault(Fault),
    /// The app did not look at the request: it may be sent again.
    Unprocessed,
}
