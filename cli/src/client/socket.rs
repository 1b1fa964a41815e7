//! Websockets of the API: the same places, the same key, a connection that stays.
//!
//! Must never happen here: a message of any size in memory.

use fleet::timing;
use hyper::header;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::connect::Wire;
use super::{Client, ClientError, refused};

/// Longest message that is taken.
const MESSAGE_MAX: usize = 1 << 20;

/// One that is open.
pub type Socket = WebSocketStream<Box<dyn Wire>>;

impl Client {
    /// Opens one. `path` is already encoded; see [`super::encode`].
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` for every status from 400.
    pub async fn websocket(&self, path: &str) -> Result<Socket, ClientError> {
        let authority = &self.place.authority;
        let request = Request::builder()
            .uri(format!("ws://{authority}{path}"))
            .header(header::HOST, authority)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .header("x-api-key", &self.key)
            .body(())
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        let stream = self.place.connect().await?;
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let opening = tokio_tungstenite::client_async_with_config(request, stream, Some(config));
        match tokio::time::timeout(timing::RESPONSE_HEADERS, opening).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(Error::Http(answer))) => Err(refused(
                answer.status().as_u16(),
                answer.body().as_deref().unwrap_or_default(),
            )),
            Ok(Err(error)) => Err(ClientError::Broken(error.to_string())),
            Err(_) => Err(ClientError::Broken("it did not begin".to_owned())),
        }
    }
}
