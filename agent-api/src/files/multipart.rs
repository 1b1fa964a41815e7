//! Reads an upload's form. The SDK sends multipart with `Content-Type: application/json` and no
//! boundary, so the boundary is read from the body's first line; correct multipart is taken too.
//!
//! The file is a stream: fields before it are known, fields after it are read when it is done.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::StatusCode;
use multer::{Constraints, Field, Multipart, SizeLimit};
use pool_backend::workspaces::ByteStream;

use crate::Problem;
use crate::input::flag;
use crate::streams::Blame;

/// Longest boundary that RFC 2046 allows.
const BOUNDARY_MAX: usize = 70;
/// Longest value of a field that is not the file.
const FIELD_MAX: u64 = 16 << 10;

/// A form, read as far as its file.
pub(crate) struct Form {
    /// Field `path`.
    pub(crate) path: Option<String>,
    /// Field `overwrite`; none: not sent before the file.
    pub(crate) overwrite: Option<bool>,
    /// Field `permissions`.
    pub(crate) permissions: Option<String>,
    /// The file.
    file: Option<Field<'static>>,
    rest: Multipart<'static>,
    blame: Blame,
}

impl Form {
    /// Reads up to the file's first byte.
    pub(crate) async fn open(
        content_type: Option<&str>,
        body: ByteStream,
        blame: &Blame,
    ) -> Result<Self, Problem> {
        let (boundary, body) = match content_type.and_then(|kind| multer::parse_boundary(kind).ok())
        {
            Some(boundary) => (boundary, body),
            None => sniffed(body, blame).await?,
        };
        let limits = SizeLimit::new()
            .for_field("file", u64::MAX)
            .per_field(FIELD_MAX);
        let constraints = Constraints::new().size_limit(limits);
        let rest = Multipart::with_constraints(body, boundary, constraints);
        let mut form = Self {
            path: None,
            overwrite: None,
            permissions: None,
            file: None,
            rest,
            blame: blame.clone(),
        };
        form.read_fields().await?;
        if form.file.is_none() {
            return Err(bad("the form has no field `file`"));
        }
        Ok(form)
    }

    /// The file's bytes.
    pub(crate) fn file(&mut self) -> ByteStream {
        let blame = self.blame.clone();
        let Some(file) = self.file.take() else {
            return stream::empty().boxed();
        };
        file.map_err(move |error| {
            blame.set(bad(format!("the form is broken: {error}")));
            std::io::Error::other(error)
        })
        .boxed()
    }

    /// Reads on to the next file or the end; only when the stream of [`Self::file`] was dropped.
    pub(crate) async fn read_fields(&mut self) -> Result<(), Problem> {
        while let Some(field) = self.next().await? {
            match field.name() {
                Some("path") => self.path = Some(self.text(field).await?),
                Some("permissions") => self.permissions = Some(self.text(field).await?),
                Some("overwrite") => {
                    let text = self.text(field).await?;
                    self.overwrite = Some(flag("overwrite", Some(&text), false)?);
                }
                Some("file") => {
                    self.file = Some(field);
                    return Ok(());
                }
                _ => {
                    self.text(field).await?;
                }
            }
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Field<'static>>, Problem> {
        let next = self.rest.next_field().await;
        next.map_err(|error| self.broken(&error))
    }

    async fn text(&self, field: Field<'static>) -> Result<String, Problem> {
        let bytes = field.bytes().await.map_err(|error| self.broken(&error))?;
        String::from_utf8(bytes.into()).map_err(|_| bad("a field of the form is not UTF-8"))
    }

    fn broken(&self, error: &multer::Error) -> Problem {
        self.blame
            .or_problem(bad(format!("the form is broken: {error}")))
    }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// The boundary in the body's first line, and the body as it was.
async fn sniffed(mut body: ByteStream, blame: &Blame) -> Result<(String, ByteStream), Problem> {
    let mut head = BytesMut::new();
    let boundary = loop {
        match sniff(&head) {
            Sniffed::Boundary(boundary) => break boundary,
            Sniffed::NotMultipart => {
                return Err(bad(
                    "an upload must be multipart/form-data with path, overwrite and file",
                ));
            }
            Sniffed::MoreNeeded => {}
        }
        match body.try_next().await {
            Ok(Some(chunk)) => head.extend_from_slice(&chunk),
            Ok(None) => {
                return Err(bad(
                    "an upload must be multipart/form-data; this body is too short",
                ));
            }
            Err(_) => return Err(blame.or_problem(crate::input::cut_off())),
        }
    };
    let head: Bytes = head.freeze();
    let whole = stream::once(std::future::ready(Ok(head))).chain(body);
    Ok((boundary, whole.boxed()))
}

#[derive(Debug, PartialEq, Eq)]
enum Sniffed {
    MoreNeeded,
    NotMultipart,
    Boundary(String),
}

/// Whether the first bytes of a body are `--<boundary>\r\n`.
fn sniff(head: &[u8]) -> Sniffed {
    let window = &head[..head.len().min(2 + BOUNDARY_MAX + 2)];
    let Some(line) = window.strip_prefix(b"--") else {
        let may_become = b"--".starts_with(window);
        return if may_become {
            Sniffed::MoreNeeded
        } else {
            Sniffed::NotMultipart
        };
    };
    let length = line
        .iter()
        .take_while(|byte| is_boundary_byte(**byte))
        .count();
    let (boundary, end) = line.split_at(length);
    match end {
        [b'\r', b'\n', ..] => match std::str::from_utf8(boundary) {
            Ok(text) if (1..=BOUNDARY_MAX).contains(&text.len()) && !text.ends_with(' ') => {
                Sniffed::Boundary(text.to_owned())
            }
            _ => Sniffed::NotMultipart,
        },
        [] | [b'\r'] if length <= BOUNDARY_MAX => Sniffed::MoreNeeded,
        _ => Sniffed::NotMultipart,
    }
}

/// RFC 2046, `bchars`.
fn is_boundary_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte)
}

#[cfg(test)]
mod tests;
