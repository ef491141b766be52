//! Operations that need a group for themselves: its files are closed, removed and moved. Other
//! threads meanwhile use the same files through the second group.

use std::path::PathBuf;

use flatspan::span::{Group, GroupError};

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    model::Model,
    plan::Kind,
    reading::Reading,
    scenario::{Scenario, hard_link},
    worker::Tally,
};
use crate::content::{Rng, tree};

/// The first group, for one thread.
#[derive(Debug)]
struct Changer<'m> {
    model: &'m Model,
    group: Group,
    /// Roots of the two groups, and the other root of the first group.
    roots: [PathBuf; 2],
    spare_root: PathBuf,
    /// The second group may pin windows of the same cache.
    shares_cache: bool,
    rng: Rng,
    tally: Tally,
}

impl Scenario {
    /// A round of the second group, while one thread changes the first.
    pub(crate) fn change_beside(&mut self, operations: u64, rng: &mut Rng) {
        let group = self.groups[0].take().expect("open");
        let (roots, spare_root) = (self.roots.clone(), self.spare_root.clone());
        let shares_cache = self.caches.len() == 1;
        let changer_rng = Rng::new(rng.next());
        let (group, root, spare_root, tally) = self.round(&[1], operations, rng, |model| {
            let mut changer = Changer {
                model,
                group,
                roots,
                spare_root,
                shares_cache,
                rng: changer_rng,
                tally: Tally::new(),
            };
            for _ in 0..operations / 4 {
                changer.one();
            }
            let [root, _] = changer.roots;
            (changer.group, root, changer.spare_root, changer.tally)
        });
        self.groups[0] = Some(group);
        self.roots[0] = root;
        self.spare_root = spare_root;
        for (name, count) in tally {
            *self.tally.entry(name).or_default() += count;
        }
    }

    /// Changes that need both groups at rest.
    pub(crate) fn change_alone(&mut self, rng: &mut Rng) {
        match rng.below(8) {
            0 => {
                let file = self.model.append_file(rng);
                let file = &self.model.files[file];
                let group = self.groups[0].as_mut().expect("open");
                group.append_file(&file.path, file.len).expect("appended");
                if file.len == 0 {
                    file.note_exists();
                }
            }
            1 => {
                if let Some(len) = self.model.grow_last_file(rng) {
                    let group = self.groups[0].as_mut().expect("open");
                    group.grow_last_file(len).expect("grown");
                }
            }
            2 | 3 => {
                let group = rng.below(2) as usize;
                self.groups[group] = None;
                self.renew_cache(group, rng);
                self.open(group);
            }
            4 => {
                let group = self.groups[rng.below(2) as usize].as_ref();
                group.expect("open").sync_all().expect("sync_all");
            }
            5 => self.hash_all(rng),
            6 => self.assemble(rng),
            _ => {}
        }
    }
}

impl<'m> Changer<'m> {
    fn one(&mut self) {
        let entry = self.rng.below(self.model.plans[0].entries.len() as u64) as usize;
        match self.rng.below(100) {
            0..40 => self.read(entry),
            40..65 => self.close(entry),
            65..75 => self.close_without_sync(entry),
            75..98 => self.remove(entry),
            _ => self.move_files(),
        }
    }

    fn count(&mut self, name: &str) {
        *self.tally.entry(name.to_owned()).or_default() += 1;
    }

    fn refused(&mut self, operation: &str, allowed: Allowed, error: &GroupError) {
        let name = allowed.check(operation, error);
        self.count(&format!("{operation}: {name}"));
    }

    /// The file of an entry; `None` for padding.
    fn file_of(&self, entry: usize) -> Option<usize> {
        match self.model.plans[0].entries[entry].kind {
            Kind::File { file, .. } | Kind::Range { file, .. } => Some(file),
            Kind::Padding => None,
        }
    }

    fn path_of(&self, entry: usize) -> Option<String> {
        match &self.model.plans[0].entries[entry].kind {
            Kind::File { path, .. } => Some(path.clone()),
            Kind::Range { file, .. } => Some(self.model.files[*file].path.clone()),
            Kind::Padding => None,
        }
    }

    fn read(&mut self, entry: usize) {
        let range = self.group.layout().entry_range(entry).expect("an entry");
        let files = self.model.files_of(0, &range);
        let files = files.into_iter().map(|file| &self.model.files[file]);
        let active = Active::new(Use::ReadCopy, files.map(|file| &file.activity));
        let reading = Reading::new(self.model, 0, &range);
        let mut buf = vec![0xEE; reading.len];
        match self.group.read_exact_at(range.start, &mut buf) {
            Ok(()) => reading.check(&format!("read of entry {entry}"), &buf, true),
            Err(error) => {
                let allowed = Allowed {
                    locked: active.had_conflict(),
                    short: reading.may_be_short(),
                    missing: reading.may_be_missing(),
                    ..Allowed::default()
                };
                self.refused("read", allowed, &error);
            }
        }
    }

    fn closing(&self) -> Allowed {
        Allowed {
            pinned: self.shares_cache,
            ..Allowed::default()
        }
    }

    /// Closing may wait for copies of the file, and counts as one.
    fn active(&self, entry: usize) -> Active<'m> {
        let file = self.file_of(entry).map(|file| &self.model.files[file]);
        Active::new(Use::WriteCopy, file.map(|file| &file.activity))
    }

    fn close(&mut self, entry: usize) {
        let _active = self.active(entry);
        match self.group.close_file(entry) {
            Ok(()) => self.count("close_file"),
            Err(GroupError::NoSuchEntry { .. }) if self.file_of(entry).is_none() => {}
            Err(error) => self.refused("close_file", self.closing(), &error),
        }
    }

    fn close_without_sync(&mut self, entry: usize) {
        let _active = self.active(entry);
        match self.group.close_file_without_sync(entry) {
            Ok(()) => self.count("close_file_without_sync"),
            Err(GroupError::NoSuchEntry { .. }) if self.file_of(entry).is_none() => {}
            Err(error) => self.refused("close_file_without_sync", self.closing(), &error),
        }
    }

    /// Removes a shared file from the first root, and links it there again.
    fn remove(&mut self, entry: usize) {
        let (Some(file), Some(path)) = (self.file_of(entry), self.path_of(entry)) else {
            return;
        };
        let file = &self.model.files[file];
        if !file.is_shared {
            return;
        }
        let active = Active::new(Use::WriteCopy, [&file.activity]);
        let link = self.roots[0].join(&path);
        match self.group.remove_file(entry) {
            Ok(()) => {
                assert!(!link.exists(), "{path} was removed");
                let error = self
                    .group
                    .actual_bytes(entry)
                    .expect_err("the file is missing");
                let missing = Allowed {
                    missing: true,
                    ..Allowed::default()
                };
                self.refused("actual_bytes", missing, &error);
                hard_link(&self.roots[1].join(&file.path), &link);
                self.count("remove_file");
            }
            Err(error) => {
                assert!(link.exists(), "{path} was removed in spite of: {error}");
                let locked = active.had_conflict();
                let allowed = Allowed {
                    locked,
                    ..self.closing()
                };
                self.refused("remove_file", allowed, &error);
            }
        }
    }

    fn move_files(&mut self) {
        let files = self.model.files.iter();
        let _active = Active::new(Use::WriteCopy, files.map(|file| &file.activity));
        let result = self.group.move_files_to(&self.spare_root);
        let moved = format!("{result:?}");
        match result {
            Ok(()) => {
                self.count("move_files_to");
                std::mem::swap(&mut self.roots[0], &mut self.spare_root);
            }
            Err(error) => {
                self.refused("move_files_to", self.closing(), &error);
            }
        }
        assert_eq!(self.group.root(), self.roots[0]);
        let left = tree(&self.spare_root).into_iter();
        let left: Vec<_> = left
            .filter(|path| self.spare_root.join(path).is_file())
            .collect();
        assert!(left.is_empty(), "{left:?} are left after {moved}");
        for (link, file) in &self.model.links {
            let is_moved = self.roots[0].join(link).exists();
            assert!(
                is_moved,
                "{link} of {} is missing",
                self.model.files[*file].path
            );
        }
    }
}
