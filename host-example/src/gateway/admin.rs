//! What operates the gateway.

use super::events::Events;
use crate::registry::Registry;
use axum::Router;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// What the operator's side works with.
#[allow(dead_code)]
pub(crate) struct Admin {
    pub(crate) registry: Registry,
    pub(crate) events: Events,
    pub(crate) token: Option<String>,
    pub(crate) metrics: Option<PrometheusHandle>,
}

/// Its paths.
pub(crate) fn router(_admin: Admin) -> Router {
    Router::new().route("/healthz", get(|| async { "ok\n" }))
}
