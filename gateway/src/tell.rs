//! What a visitor is told when pingora or a connect failed, and the telling.
//!
//! Must never happen here: a second answer after the first began.

use bytes::Bytes;
use fleet::door::ConnectError;
use http::Method;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::classify::Target;
use crate::edge::{Ctx, Edge};
use crate::forward;
use crate::refusal::{Kind, Refusal};

impl Edge {
    /// What pingora's error means to a visitor. `None`: the visitor is gone.
    pub fn explain(&self, error: &Error, ctx: &Ctx) -> Option<Refusal> {
        use ErrorType as T;
        let refusal = match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, T::ReadTimedout) => {
                Refusal::new(Kind::BodyTooSlow, "The request's body came too slowly.")
            }
            (ErrorSource::Downstream, T::InvalidHTTPHeader | T::HTTPStatus(_)) => Refusal::new(
                Kind::BadRequest,
                "The request was refused: it is malformed.",
            ),
            (ErrorSource::Downstream, _) => return None,
            (ErrorSource::Upstream, _) if ctx.target == Some(Target::Api) => Refusal::no_api(),
            (ErrorSource::Upstream, T::ReadTimedout | T::WriteTimedout | T::ConnectTimedout) => {
                Refusal::new(Kind::AppTimeout, "The app did not answer in time.")
            }
            (ErrorSource::Upstream, _) => Refusal::new(
                Kind::AppFailed,
                "The app closed the connection or answered with something that is not HTTP.",
            ),
            (ErrorSource::Internal | ErrorSource::Unset, _) => {
                tracing::warn!(%error, "a request failed inside the gateway");
                Refusal::new(Kind::Internal, "Something went wrong on our side.")
            }
        };
        Some(refusal)
    }

    /// What a failed connect means; a container that is gone means a stale route, and a retry.
    pub fn connect_failed(&self, ctx: &mut Ctx, mut error: Box<Error>) -> Box<Error> {
        let Some(failure) = ctx.connect_failure.take() else {
            return error;
        };
        if let Some(Target::Preview { slug, .. }) = &ctx.target {
            if matches!(failure, ConnectError::Gone) {
                self.reach.routes.forget(slug);
                error.set_retry(true);
            }
            let refusal = Refusal::of_connect(&failure, self.link(slug, &ctx.host));
            ctx.refusal = Some(refusal);
        }
        error
    }

    /// Tells the visitor. Whether pingora may go on with the connection.
    pub async fn tell(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        refusal: &Refusal,
    ) -> Result<()> {
        ctx.account.refused = Some(refusal.kind);
        if ctx.account.request_id.is_empty() {
            ctx.account.request_id = forward::mint_request_id();
        }
        let told = refusal.render(ctx.format, &ctx.account.request_id);
        let mut response = ResponseHeader::build(told.status, Some(told.headers.len()))?;
        for (name, value) in told.headers {
            response.insert_header(name, value)?;
        }
        let head = session.req_header().method == Method::HEAD;
        let unread = !session.is_body_done();
        if unread || ctx.filtered || refusal.kind.closes() {
            session.set_keepalive(None);
        }
        let body = if head {
            Bytes::new()
        } else {
            Bytes::from(told.body)
        };
        let downstream = session.as_downstream_mut();
        downstream.write_response_header(Box::new(response)).await?;
        downstream.write_response_body(body, true).await?;
        let expects = session.get_header(http::header::EXPECT).is_some();
        if unread && !expects && !session.is_http2() {
            // Closing over unread bytes would reset the connection and lose the answer. Bounded by
            // the drain timeout.
            session.finish_body().await?;
            let _ = session.drain_request_body().await;
        }
        Ok(())
    }
}
