//! The directories that are watched, and where each is by now.
//!
//! Must never happen here: a symlink followed at its last component, a directory's content read in
//! one go, `.home` looked into.

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use init_protocol::{HOME, MAX_WATCHED};
use rustix::fs::inotify::{WatchFlags, add_watch, remove_watch};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::net::unix::pipe::Receiver;

use super::batch::Batch;
use super::writes::Writes;

/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4096;
const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::EXCL_UNLINK);

/// What the node's own files, and what it removes, are called meanwhile.
pub fn is_draft(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let draft = name.starts_with(b".fleeks-") && name.ends_with(b".tmp");
    draft || name.starts_with(b".fleeks-removed-")
}

/// See the module.
pub struct Tree {
    root: PathBuf,
    root_watch: i32,
    nodes: HashMap<i32, Node>,
    children: HashMap<(i32, Rc<OsStr>), i32>,
    to_scan: VecDeque<(i32, bool)>,
    scanning: Option<Scan>,
    full: bool,
}

struct Node {
    parent: i32,
    name: Rc<OsStr>,
}

struct Scan {
    watch: i32,
    entries: Dir,
    /// Of what is found.
    tell: bool,
}

impl Tree {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            root_watch: -1,
            nodes: HashMap::new(),
            children: HashMap::new(),
            to_scan: VecDeque::new(),
            scanning: None,
            full: false,
        }
    }

    /// Directories that are watched.
    pub fn len(&self) -> usize {
        self.nodes.len() + usize::from(self.root_watch >= 0)
    }

    /// There was a directory that is not watched.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// False: the kernel does not let us.
    pub fn add_root(&mut self, inotify: &Receiver) -> bool {
        let Ok(watch) = add_watch(inotify, &self.root, FLAGS) else {
            return false;
        };
        self.root_watch = watch;
        self.to_scan.push_back((watch, false));
        true
    }

    /// Watches a directory, and will look into it. True: it was known under another name, and its
    /// move is told.
    pub fn add(
        &mut self,
        inotify: &Receiver,
        parent: i32,
        name: &OsStr,
        tell: bool,
        batch: &mut Batch,
    ) -> bool {
        if self.len() >= MAX_WATCHED {
            self.full = true;
            return false;
        }
        let Some(path) = self.absolute(parent, name) else {
            self.full = true;
            return false;
        };
        match add_watch(inotify, &path, FLAGS) {
            Ok(watch) if watch == self.root_watch => {}
            Ok(watch) if self.nodes.contains_key(&watch) => {
                return self.found_again(watch, parent, name, batch);
            }
            Ok(watch) => {
                self.place(watch, parent, name);
                self.to_scan.push_back((watch, tell));
            }
            // Gone, or something else by now: that is told too.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(_) => self.full = true,
        }
        false
    }

    fn found_again(&mut self, watch: i32, parent: i32, name: &OsStr, batch: &mut Batch) -> bool {
        let path = |tree: &Self| {
            let node = tree.nodes.get(&watch)?;
            tree.path_in(node.parent, &node.name)
        };
        let from = path(self);
        self.rename(watch, parent, name);
        let (Some(from), Some(to)) = (from, path(self)) else {
            return false;
        };
        let moved = from != to;
        if moved {
            batch.found_again(watch, from, to);
        }
        moved
    }

    /// The directory of that name.
    pub fn child(&self, parent: i32, name: &OsStr) -> Option<i32> {
        self.children.get(&(parent, Rc::from(name))).copied()
    }

    pub fn rename(&mut self, watch: i32, parent: i32, name: &OsStr) {
        self.forget(watch);
        self.place(watch, parent, name);
    }

    fn place(&mut self, watch: i32, parent: i32, name: &OsStr) {
        let name: Rc<OsStr> = name.into();
        self.children.insert((parent, Rc::clone(&name)), watch);
        self.nodes.insert(watch, Node { parent, name });
    }

    /// It is not watched any more.
    pub fn forget(&mut self, watch: i32) {
        if let Some(Node { parent, name }) = self.nodes.remove(&watch) {
            let key = (parent, name);
            if self.children.get(&key) == Some(&watch) {
                self.children.remove(&key);
            }
        }
    }

    /// A directory left, with all below it.
    pub fn drop_below(&mut self, inotify: &Receiver, watch: i32) {
        let below = |of: &i32| self.ancestors(*of).any(|above| above == watch);
        let mut gone: Vec<i32> = self.nodes.keys().copied().filter(below).collect();
        gone.push(watch);
        for watch in gone {
            // It may be gone by itself.
            let _ = remove_watch(inotify, watch);
            self.forget(watch);
        }
    }

    /// What no watch tells of.
    pub fn is_hidden(&self, parent: i32, name: &OsStr) -> bool {
        parent == self.root_watch && name == HOME
    }

    /// Relative to the workspace, as text; none for a directory that is not watched any more.
    pub fn path_in(&self, parent: i32, name: &OsStr) -> Option<String> {
        let path = self.relative(parent, name)?;
        Some(match String::from_utf8(path) {
            Ok(path) => path,
            Err(path) => String::from_utf8_lossy(path.as_bytes()).into_owned(),
        })
    }

    fn absolute(&self, parent: i32, name: &OsStr) -> Option<PathBuf> {
        let path = self.relative(parent, name)?;
        let path = self.root.join(OsStr::from_bytes(&path));
        (path.as_os_str().len() < MAX_PATH).then_some(path)
    }

    fn relative(&self, parent: i32, name: &OsStr) -> Option<Vec<u8>> {
        let mut names = vec![name.as_bytes()];
        let (mut at, mut length) = (parent, name.len());
        while at != self.root_watch {
            let node = self.nodes.get(&at)?;
            length += node.name.len() + 1;
            if length > MAX_PATH {
                return None;
            }
            names.push(node.name.as_bytes());
            at = node.parent;
        }
        names.reverse();
        Some(names.join(&b'/'))
    }

    fn ancestors(&self, watch: i32) -> impl Iterator<Item = i32> {
        let above = |watch: &i32| self.nodes.get(watch).map(|node| node.parent);
        std::iter::successors(above(&watch), above).take(MAX_PATH)
    }

    /// Looks at some entries of directories that are to be looked into; true while there are more.
    pub fn scan(
        &mut self,
        inotify: &Receiver,
        count: usize,
        batch: &mut Batch,
        writes: &Writes,
    ) -> bool {
        for _ in 0..count {
            let Some(mut scan) = self.scanning.take().or_else(|| self.next_scan()) else {
                return false;
            };
            match scan.entries.next() {
                Some(Ok(entry)) => {
                    let name = OsStr::from_bytes(entry.file_name().to_bytes());
                    let kind = match entry.file_type() {
                        FileType::Unknown => scan.kind_of(name),
                        known => known,
                    };
                    self.found(inotify, (&scan, name, kind), batch, writes);
                    self.scanning = Some(scan);
                }
                Some(Err(Errno::INTR)) => self.scanning = Some(scan),
                Some(Err(_)) => self.full = true,
                None => {}
            }
        }
        true
    }

    fn found(
        &mut self,
        inotify: &Receiver,
        (scan, name, kind): (&Scan, &OsStr, FileType),
        batch: &mut Batch,
        writes: &Writes,
    ) {
        let nothing = name == "." || name == ".." || is_draft(name);
        if nothing || self.is_hidden(scan.watch, name) {
            return;
        }
        let directory = kind == FileType::Directory;
        let path = self.path_in(scan.watch, name).filter(|_| scan.tell);
        if let Some(gone) = path.as_ref().and_then(|path| batch.replaced(path)) {
            self.drop_below(inotify, gone);
        }
        let moved = directory && self.add(inotify, scan.watch, name, scan.tell, batch);
        if let Some(path) = path
            && !moved
        {
            let write_id = writes.found(&path);
            batch.created(path, directory, write_id);
        }
    }

    /// None: there is nothing to look into.
    fn next_scan(&mut self) -> Option<Scan> {
        loop {
            let (watch, tell) = self.to_scan.pop_front()?;
            let path = if watch == self.root_watch {
                self.root.clone()
            } else {
                let Some(node) = self.nodes.get(&watch) else {
                    continue;
                };
                let Some(path) = self.absolute(node.parent, &node.name) else {
                    continue;
                };
                path
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(CWD, &path, flags, Mode::empty());
            match opened.and_then(Dir::new) {
                Ok(entries) => {
                    return Some(Scan {
                        watch,
                        entries,
                        tell,
                    });
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => self.full = true,
            }
        }
    }
}

impl Scan {
    fn kind_of(&self, name: &OsStr) -> FileType {
        let stat = self
            .entries
            .fd()
            .and_then(|dir| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW));
        stat.map_or(FileType::Unknown, |stat| {
            FileType::from_raw_mode(stat.st_mode)
        })
    }
}
