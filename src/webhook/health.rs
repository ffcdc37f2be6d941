//! What kubelet and scrapers ask of the injector: `/livez`, `/readyz`, `/metrics`, without TLS.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    answer::response, connections::Answer, counts::Counts, identity::Identity, kubernetes::Settled,
};
use crate::metrics::Format;

const TEXT: &str = "text/plain; charset=utf-8";

/// Answers on the health port. Cheap to clone.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) identity: Identity,
    /// `None` if nobody can be asked for the version.
    pub(super) settled: Option<Settled>,
    pub(super) counts: Arc<Counts>,
}

impl Answer for Health {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "expected GET\n".to_owned());
        }
        match request.uri().path() {
            "/livez" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics(request.headers()),
            _ => {
                let paths = "the paths are /livez, /readyz and /metrics\n";
                response(StatusCode::NOT_FOUND, TEXT, paths.to_owned())
            }
        }
    }
}

impl Health {
    /// 503 with a line for each thing that is lacking.
    fn readiness(&self) -> Response<Full<Bytes>> {
        let unsettled = self.settled.as_ref().and_then(Settled::lacks);
        let lacks = self.identity.lacks().into_iter().chain(unsettled);
        let lacks: String = lacks.map(|lack| format!("{lack}\n")).collect();
        if lacks.is_empty() {
            return response(StatusCode::OK, TEXT, "ok\n".to_owned());
        }
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, lacks)
    }

    fn metrics(&self, headers: &http::HeaderMap) -> Response<Full<Bytes>> {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::negotiate(accept.unwrap_or_default());
        let is_verified = self.identity.is_verified();
        match self.counts.render(format, self.identity.expires_at(), is_verified) {
            Ok(text) => response(StatusCode::OK, format.content_type(), text),
            Err(error) => {
                tracing::error!(%error, "the metrics can't be written");
                let text = "the metrics can't be written\n".to_owned();
                response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
            }
        }
    }
}
