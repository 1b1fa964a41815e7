//! The kernel's events, and what each means.
//!
//! Must never happen here: a wait.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::inotify::ReadFlags;
use tokio::net::unix::pipe::Receiver;

use super::batch::Batch;
use super::tree::{Tree, is_draft};
use super::writes::{Way, Writes};

/// Bytes before an event's name.
const HEADER: usize = 16;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Others could not be queued.
    Lost,
    /// In a watched directory, or about one.
    Seen {
        watch: i32,
        flags: ReadFlags,
        cookie: u32,
        /// Empty: the directory itself.
        name: &'a OsStr,
    },
}

/// What one read gave.
pub fn events(mut bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    std::iter::from_fn(move || {
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let number = |at: usize| {
            let part = header.get(at..at + 4)?;
            Some(u32::from_ne_bytes(part.try_into().ok()?))
        };
        let (watch, mask, cookie, length) = (number(0)?, number(4)?, number(8)?, number(12)?);
        let (name, rest) = rest.split_at_checked(length as usize)?;
        bytes = rest;
        let flags = ReadFlags::from_bits_retain(mask);
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Event::Lost);
        }
        let end = name.iter().position(|byte| *byte == 0);
        Some(Event::Seen {
            watch: watch.cast_signed(),
            flags,
            cookie,
            name: OsStr::from_bytes(&name[..end.unwrap_or(name.len())]),
        })
    })
}

impl Event<'_> {
    /// What it says goes into the batch, and the tree is as it should be then.
    pub fn apply(self, inotify: &Receiver, tree: &mut Tree, batch: &mut Batch, writes: &Writes) {
        let Event::Seen {
            watch,
            flags,
            cookie,
            name,
        } = self
        else {
            return;
        };
        if flags.contains(ReadFlags::IGNORED) {
            return tree.forget(watch);
        }
        if name.is_empty() || tree.is_hidden(watch, name) {
            return;
        }
        if is_draft(name) {
            if flags.contains(ReadFlags::MOVED_FROM) {
                batch.draft(cookie);
            }
            return;
        }
        let Some(path) = tree.path_in(watch, name) else {
            return;
        };
        let directory = flags.contains(ReadFlags::ISDIR);
        let comes = ReadFlags::CREATE.union(ReadFlags::MOVED_TO);
        if flags.intersects(comes)
            && let Some(gone) = batch.replaced(&path)
        {
            tree.drop_below(inotify, gone);
        }
        if flags.contains(ReadFlags::CREATE) {
            let write = writes.of(&path, |way| way == Way::Made);
            batch.created(path, directory, write.map(|(_, id)| id));
            if directory {
                let _known = tree.add(inotify, watch, name, true, batch);
            }
        } else if flags.contains(ReadFlags::DELETE) {
            batch.deleted(path, directory);
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            batch.leaves(cookie, path, directory, tree.child(watch, name));
        } else if flags.contains(ReadFlags::MOVED_TO) {
            let draft = batch.was_draft(cookie);
            match writes.of(&path, |way| way != Way::Made) {
                Some((Way::Replaced, id)) => batch.modified(path, directory, Some(id)),
                Some((_, id)) => batch.created(path, directory, Some(id)),
                None if draft => batch.created(path, directory, None),
                None => {
                    let moved = batch.arrives(cookie, path, directory);
                    match moved {
                        Some(moved) => tree.rename(moved, watch, name),
                        None if directory => {
                            let _known = tree.add(inotify, watch, name, true, batch);
                        }
                        None => {}
                    }
                }
            }
        } else if !directory {
            batch.modified(path, directory, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(watch: i32, mask: ReadFlags, name: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [watch.cast_unsigned(), mask.bits(), 7, name.len() as u32] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(name);
        bytes
    }

    #[test]
    fn what_is_read_is_taken_apart_and_a_cut_end_is_none() {
        let mut bytes = raw(3, ReadFlags::CREATE, b"name\0\0\0\0");
        bytes.extend(raw(-1, ReadFlags::QUEUE_OVERFLOW, b""));
        bytes.extend(raw(4, ReadFlags::IGNORED, b""));
        bytes.extend(&raw(5, ReadFlags::CREATE, b"cut\0")[..18]);
        let found: Vec<_> = events(&bytes).collect();
        let seen = |watch, flags, name| Event::Seen {
            watch,
            flags,
            cookie: 7,
            name: OsStr::new(name),
        };
        let expected = [
            seen(3, ReadFlags::CREATE, "name"),
            Event::Lost,
            seen(4, ReadFlags::IGNORED, ""),
        ];
        assert_eq!(found, expected);
    }
}
