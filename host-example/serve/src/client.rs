//! The client of an exchange: its request as the policy reads it, and its response, at once or piece by piece.

use super::exchange::Underway;
use super::memory::Share;
use super::policy::contract::RequestBody;
use super::upstream::Body as Upstream;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// How many pieces of a response may wait for a client that reads slowly.
const BACKLOG: usize = 8;

/// How much of a request's body may come before it draws on the memory that all share, in bytes.
const FREE_BODY_BYTES: usize = 64 << 10;

/// Read a request's body, no more than `most` bytes of it, `within` that time; none where there is no memory
/// for it, which is drawn from `memory`.
pub(super) async fn read(
    body: Incoming,
    most: u64,
    within: Duration,
    memory: &mut Share,
) -> Option<RequestBody> {
    if body.is_end_stream() {
        return Some(RequestBody::Whole(Vec::new()));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    match timeout(within, gather(body, most, memory)).await {
        Ok(read) => read,
        Err(_) => Some(RequestBody::TooSlow),
    }
}

async fn gather(mut body: Incoming, most: usize, memory: &mut Share) -> Option<RequestBody> {
    // What a client announces it may never send; so memory is taken for what has come.
    let mut gathered = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Some(RequestBody::Broken) };
        let Ok(data) = frame.into_data() else { continue };
        let before = gathered.len();
        if data.len() > most - before {
            return Some(RequestBody::TooLong);
        }
        let beyond = |bytes: usize| bytes.saturating_sub(FREE_BODY_BYTES);
        let more = beyond(before + data.len()) - beyond(before);
        if more > 0 && !memory.draw(more) {
            return None;
        }
        gathered.extend_from_slice(&data);
    }
    Some(RequestBody::Whole(gathered.into()))
}

/// Who gets the response of an exchange.
pub(super) struct Client {
    response: Option<oneshot::Sender<Response<Body>>>,
    pieces: Option<mpsc::Sender<Piece>>,
    /// How long it may take no piece.
    patience: Duration,
    is_gone: bool,
}

/// A part of a response.
pub(super) enum Piece {
    Bytes(Bytes),
    /// It is whole.
    End,
}

impl Client {
    /// One, and where its response comes.
    pub(super) fn new(patience: Duration) -> (Self, oneshot::Receiver<Response<Body>>) {
        let (sender, receiver) = oneshot::channel();
        (Self { response: Some(sender), pieces: None, patience, is_gone: false }, receiver)
    }

    /// Begin the response. It goes to nobody when the client has left.
    pub(super) fn respond(&mut self, response: Response<Body>) {
        if let Some(sender) = self.response.take() {
            let _ = sender.send(response);
        }
    }

    /// A body whose pieces `send` brings.
    pub(super) fn pieces(&mut self) -> Body {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.pieces = Some(sender);
        Body::Pieces(receiver)
    }

    /// Send a piece. It goes nowhere when the client has left, as one has that takes nothing.
    pub(super) async fn send(&mut self, bytes: Vec<u8>) {
        self.put(Piece::Bytes(bytes.into())).await;
    }

    /// End a response of pieces well. Without that it breaks off.
    pub(super) async fn end(&mut self) {
        self.put(Piece::End).await;
    }

    async fn put(&mut self, piece: Piece) {
        let Some(pieces) = &self.pieces else { return };
        let piece = match pieces.try_send(piece) {
            Err(TrySendError::Full(piece)) => piece,
            Ok(()) | Err(TrySendError::Closed(_)) => return,
        };
        if timeout(self.patience, pieces.send(piece)).await.is_err() {
            self.pieces = None;
            self.is_gone = true;
        }
    }

    /// Until the client is gone.
    pub(super) async fn left(&mut self) {
        match (&mut self.response, &self.pieces) {
            _ if self.is_gone => {}
            (Some(response), _) => response.closed().await,
            (None, Some(pieces)) => pieces.closed().await,
            (None, None) => std::future::pending().await,
        }
    }
}

/// The body of a response.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// What an exchange sends.
    Pieces(mpsc::Receiver<Piece>),
    /// A provider's, as it comes; meanwhile the exchange counts as under way.
    Passed(Upstream, #[expect(dead_code, reason = "its drop says that the exchange is over")] Underway),
}

/// The response cannot be finished.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BrokenOff(String);

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let piece = match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => None,
            Self::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::Pieces(pieces) => match ready!(pieces.poll_recv(context)) {
                Some(Piece::Bytes(bytes)) => Some(Ok(bytes)),
                Some(Piece::End) => None,
                None => Some(Err(BrokenOff("the exchange ended before its response did".into()))),
            },
            Self::Passed(body, _) => ready!(body.poll_next(context))
                .transpose()
                .map(|piece| piece.map_err(|failure| BrokenOff(failure.reason))),
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Pieces(_) => false,
            Self::Passed(body, _) => body.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Pieces(_) => SizeHint::default(),
            Self::Passed(body, _) => body.size_hint(),
        }
    }
}
