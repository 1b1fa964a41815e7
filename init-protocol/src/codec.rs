//! Frames on a byte stream.
//!
//! None of the readers is cancel safe: a dropped read leaves the stream in the middle of a frame,
//! so drop the connection with it. None waits with a bound of its own: callers put a timeout
//! around.
//!
//! Must never happen here: memory set aside because a length field says so.

use std::io::{self, IoSlice};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{FrameKind, MAX_FRAME};

/// Bytes before the payload.
const HEADER: usize = 5;
/// The buffer grows by at most this before bytes have come to fill it.
const GROWTH: usize = 64 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The connection broke.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The connection ended where a frame, or the rest of one, had to come.
    #[error("connection ended early")]
    Ended,
    /// The payload is longer than allowed at this point.
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    /// No such frame kind.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// A frame of this kind has no place here.
    #[error("unexpected frame {0:?}")]
    Unexpected(FrameKind),
    /// The payload is not the JSON that was expected.
    #[error("malformed message: {0}")]
    Malformed(#[source] serde_json::Error),
}

impl TryFrom<u8> for FrameKind {
    type Error = CodecError;

    fn try_from(byte: u8) -> Result<Self, CodecError> {
        Ok(match byte {
            1 => Self::Hello,
            2 => Self::Call,
            3 => Self::Reply,
            4 => Self::Data,
            5 => Self::DataErr,
            6 => Self::End,
            other => return Err(CodecError::UnknownKind(other)),
        })
    }
}

/// Reads one frame of at most [`MAX_FRAME`] bytes; its payload replaces what is in `buffer`.
///
/// # Errors
/// [`CodecError`].
pub async fn read_frame<R>(reader: &mut R, buffer: &mut Vec<u8>) -> Result<FrameKind, CodecError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    read_frame_up_to(reader, buffer, MAX_FRAME).await
}

/// [`read_frame`] with a tighter limit, for peers who have not said yet who they are.
///
/// # Errors
/// [`CodecError`].
pub async fn read_frame_up_to<R>(
    reader: &mut R,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<FrameKind, CodecError>
where
    R: AsyncRead + Unpin + ?Sized,
{
    buffer.clear();
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).await.map_err(ended)?;
    let [kind, length @ ..] = header;
    let kind = FrameKind::try_from(kind)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit.min(MAX_FRAME) {
        return Err(CodecError::TooLong(length));
    }
    while buffer.len() < length {
        let missing = length - buffer.len();
        buffer.reserve(missing.min(GROWTH));
        let mut rest = (&mut *reader).take(missing as u64);
        if rest.read_buf(buffer).await? == 0 {
            return Err(CodecError::Ended);
        }
    }
    Ok(kind)
}

/// Reads one frame that has to be of `kind`, and its JSON.
///
/// # Errors
/// [`CodecError`].
pub async fn read_json<T, R>(
    reader: &mut R,
    kind: FrameKind,
    buffer: &mut Vec<u8>,
) -> Result<T, CodecError>
where
    T: DeserializeOwned,
    R: AsyncRead + Unpin + ?Sized,
{
    let got = read_frame(reader, buffer).await?;
    if got != kind {
        return Err(CodecError::Unexpected(got));
    }
    serde_json::from_slice(buffer).map_err(CodecError::Malformed)
}

/// Writes one frame, header and payload together; the payload is not copied.
///
/// # Errors
/// [`CodecError::Io`], and [`CodecError::TooLong`] before anything is written.
pub async fn write_frame<W>(
    writer: &mut W,
    kind: FrameKind,
    payload: &[u8],
) -> Result<(), CodecError>
where
    W: AsyncWrite + Unpin + ?Sized,
{
    let header = header(kind, payload.len())?;
    let mut slices = [IoSlice::new(&header), IoSlice::new(payload)];
    let mut left = &mut slices[..];
    while !left.is_empty() {
        let written = writer.write_vectored(left).await?;
        if written == 0 {
            return Err(CodecError::Io(io::ErrorKind::WriteZero.into()));
        }
        IoSlice::advance_slices(&mut left, written);
    }
    Ok(())
}

/// Writes one frame of JSON, by way of `buffer`.
///
/// # Errors
/// [`CodecError`].
pub async fn write_json<T, W>(
    writer: &mut W,
    kind: FrameKind,
    value: &T,
    buffer: &mut Vec<u8>,
) -> Result<(), CodecError>
where
    T: Serialize + ?Sized,
    W: AsyncWrite + Unpin + ?Sized,
{
    buffer.clear();
    push_json(buffer, kind, value)?;
    writer.write_all(buffer).await?;
    Ok(())
}

/// Appends one frame of JSON to `buffer`, so that several go out in one write. After an error
/// `buffer` is as it was.
///
/// # Errors
/// [`CodecError::TooLong`], [`CodecError::Malformed`].
pub fn push_json<T>(buffer: &mut Vec<u8>, kind: FrameKind, value: &T) -> Result<(), CodecError>
where
    T: Serialize + ?Sized,
{
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let framed = serde_json::to_writer(&mut *buffer, value)
        .map_err(CodecError::Malformed)
        .and_then(|()| header(kind, buffer.len() - start - HEADER));
    match framed {
        Ok(header) => {
            buffer[start..start + HEADER].copy_from_slice(&header);
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

fn header(kind: FrameKind, length: usize) -> Result<[u8; HEADER], CodecError> {
    if length > MAX_FRAME {
        return Err(CodecError::TooLong(length));
    }
    let [a, b, c, d] = (length as u32).to_be_bytes();
    Ok([kind as u8, a, b, c, d])
}

fn ended(error: io::Error) -> CodecError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => CodecError::Ended,
        _ => CodecError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::{Call, Hello, VERSION};

    /// Byte slices are always ready: no runtime is needed.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("a slice made us wait"),
        }
    }

    fn framed(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        now(write_frame(&mut bytes, kind, payload)).unwrap();
        bytes
    }

    fn kinds() -> impl Strategy<Value = FrameKind> {
        (1_u8..=6).prop_map(|byte| FrameKind::try_from(byte).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            frames in prop::collection::vec(
                (kinds(), prop::collection::vec(any::<u8>(), 0..5_000)), 0..5)
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, payload)| framed(*kind, payload)).collect();
            let mut reader = &bytes[..];
            let mut buffer = vec![1, 2, 3];
            for (kind, payload) in &frames {
                prop_assert_eq!(now(read_frame(&mut reader, &mut buffer)).unwrap(), *kind);
                prop_assert_eq!(&buffer, payload);
            }
            prop_assert!(matches!(now(read_frame(&mut reader, &mut buffer)), Err(CodecError::Ended)));
        }

        #[test]
        fn a_cut_frame_is_never_a_frame(
            kind in kinds(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            cut in 1_usize..305,
        ) {
            let mut bytes = framed(kind, &payload);
            bytes.truncate(bytes.len().saturating_sub(cut));
            let read = now(read_frame(&mut &bytes[..], &mut Vec::new()));
            prop_assert!(matches!(read, Err(CodecError::Ended)));
        }

        #[test]
        fn unknown_kinds_are_refused(kind in prop_oneof![Just(0_u8), 7_u8..], length in any::<u32>()) {
            let mut bytes = vec![kind];
            bytes.extend(length.to_be_bytes());
            let read = now(read_frame(&mut &bytes[..], &mut Vec::new()));
            prop_assert!(matches!(read, Err(CodecError::UnknownKind(got)) if got == kind));
        }

        #[test]
        fn long_frames_are_refused_by_their_header(kind in kinds(), limit in 0_usize..2 * MAX_FRAME, over in 1_usize..1 << 30) {
            let length = limit.min(MAX_FRAME) + over;
            let mut bytes = vec![kind as u8];
            bytes.extend((length as u32).to_be_bytes());
            let mut buffer = Vec::new();
            let read = now(read_frame_up_to(&mut &bytes[..], &mut buffer, limit));
            prop_assert!(matches!(read, Err(CodecError::TooLong(got)) if got == length));
            prop_assert_eq!(buffer.capacity(), 0);
        }

        #[test]
        fn arbitrary_bytes_end_in_a_frame_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = Vec::new();
            if now(read_frame(&mut &bytes[..], &mut buffer)).is_ok() {
                prop_assert!(buffer.len() + HEADER <= bytes.len());
            }
        }
    }

    #[test]
    fn a_claimed_length_costs_no_memory_before_its_bytes_come() {
        let mut bytes = vec![FrameKind::Data as u8];
        bytes.extend((MAX_FRAME as u32).to_be_bytes());
        let mut buffer = Vec::new();
        assert!(now(read_frame(&mut &bytes[..], &mut buffer)).is_err());
        assert!(buffer.capacity() <= GROWTH);
    }

    #[test]
    fn a_full_frame_goes_through_and_one_byte_more_does_not() {
        let mut payload = vec![7; MAX_FRAME];
        let bytes = framed(FrameKind::Data, &payload);
        let mut buffer = Vec::new();
        now(read_frame(&mut &bytes[..], &mut buffer)).unwrap();
        assert_eq!(buffer, payload);

        payload.push(7);
        let mut sink = Vec::new();
        let written = now(write_frame(&mut sink, FrameKind::Data, &payload));
        assert!(matches!(written, Err(CodecError::TooLong(_))));
        assert!(sink.is_empty());
    }

    #[test]
    fn several_messages_share_one_write() {
        let mut bytes = Vec::new();
        let hello = Hello {
            version: VERSION,
            token: "t".to_owned(),
        };
        push_json(&mut bytes, FrameKind::Hello, &hello).unwrap();
        let long = "x".repeat(MAX_FRAME + 1);
        let before = bytes.clone();
        assert!(matches!(
            push_json(&mut bytes, FrameKind::Call, &long),
            Err(CodecError::TooLong(_))
        ));
        assert_eq!(bytes, before, "a refused message leaves nothing behind");
        push_json(&mut bytes, FrameKind::Call, &Call::Ping).unwrap();

        let reader = &mut &bytes[..];
        let mut buffer = Vec::new();
        let hello: Hello = now(read_json(reader, FrameKind::Hello, &mut buffer)).unwrap();
        assert_eq!(hello.token, "t");
        let call: Call = now(read_json(reader, FrameKind::Call, &mut buffer)).unwrap();
        assert!(matches!(call, Call::Ping));
    }

    #[test]
    fn the_wrong_kind_and_the_wrong_json_are_told_apart() {
        let bytes = framed(FrameKind::Data, b"{}");
        let read = now(read_json::<Hello, _>(
            &mut &bytes[..],
            FrameKind::Hello,
            &mut Vec::new(),
        ));
        assert!(matches!(read, Err(CodecError::Unexpected(FrameKind::Data))));
        let bytes = framed(FrameKind::Hello, b"{}");
        let read = now(read_json::<Hello, _>(
            &mut &bytes[..],
            FrameKind::Hello,
            &mut Vec::new(),
        ));
        assert!(matches!(read, Err(CodecError::Malformed(_))));
    }
}
