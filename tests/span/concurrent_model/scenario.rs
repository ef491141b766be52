//! Directories, caches and groups of a model, and rounds of threads on them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use flatspan::{
    mapping_cache::{Access, BudgetPolicy, CacheOptions, MappingCache, Preallocation},
    span::{Entry, Group},
};
use tempfile::TempDir;

use super::{
    model::Model,
    plan::{Kind, Plan},
    worker::{OpenGroup, Tally, Worker},
};
use crate::{
    content::{COPY_PATHS, PREALLOCATIONS, Rng},
    support,
};

/// Options of a group, which stay the same when it is opened again.
#[derive(Clone, Copy, Debug)]
struct Setting {
    preallocation: Preallocation,
    policy: BudgetPolicy,
}

/// A cache and its budget.
#[derive(Debug)]
pub(crate) struct OpenCache {
    pub(crate) cache: MappingCache,
    pub(crate) policy: BudgetPolicy,
    pub(crate) budget_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) directory: TempDir,
    pub(crate) model: Model,
    pub(crate) caches: Vec<OpenCache>,
    /// Roots of the groups. The first group moves between two roots.
    pub(crate) roots: [PathBuf; 2],
    pub(crate) spare_root: PathBuf,
    settings: [Setting; 2],
    pub(crate) groups: [Option<Group>; 2],
    pub(crate) tally: Tally,
}

impl Scenario {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let directory = some_directory(rng);
        let threads = rng.below(7) as usize + 2;
        let files = rng.below(250) as usize + 50;
        let model = Model::new(threads, files, rng);
        let root = |name| directory.path().join(name);
        let policies = [BudgetPolicy::AllowExceeding, BudgetPolicy::Fail];
        // The groups share one cache, or have one each.
        let caches = rng.below(2) as usize + 1;
        let policy: Vec<_> = (0..caches)
            .map(|_| policies[rng.below(2) as usize])
            .collect();
        let settings = [0, 1].map(|group: usize| Setting {
            preallocation: PREALLOCATIONS[rng.below(3) as usize],
            policy: policy[group.min(caches - 1)],
        });
        let mut scenario = Self {
            caches: policy
                .iter()
                .map(|policy| new_cache(*policy, rng))
                .collect(),
            roots: [root("first"), root("second")],
            spare_root: root("moved"),
            settings,
            groups: [None, None],
            tally: Tally::new(),
            directory,
            model,
        };
        scenario.make_files();
        for group in [0, 1] {
            scenario.open(group);
        }
        scenario
    }

    /// Creates the shared files, which are empty, and their hard links.
    fn make_files(&self) {
        fs::create_dir(&self.spare_root).expect("mkdir");
        for root in &self.roots {
            fs::create_dir(root).expect("mkdir");
        }
        for file in self.model.files.iter().filter(|file| file.is_shared) {
            let (original, link) = (
                self.roots[1].join(&file.path),
                self.roots[0].join(&file.path),
            );
            create_parent(&original);
            fs::write(&original, []).expect("create");
            hard_link(&original, &link);
            file.note_exists();
        }
        for (link, file) in &self.model.links {
            let original = self.roots[1].join(&self.model.files[*file].path);
            hard_link(&original, &self.roots[0].join(link));
        }
    }

    pub(crate) fn open(&mut self, group: usize) {
        let cache = self.caches[group.min(self.caches.len() - 1)].cache.clone();
        let entries = entries_of(&self.model, &self.model.plans[group]);
        let builder = Group::builder(&self.roots[group])
            .cache(&cache)
            .access(Access::ReadWrite)
            .create(true)
            .preallocation(self.settings[group].preallocation)
            .entries(entries);
        #[expect(unsafe_code, reason = "the directory is this test's own")]
        // SAFETY: no other code knows the directory.
        let builder = unsafe { builder.assume_exclusive() };
        let opened = builder.open().expect("a group");
        assert_eq!(opened.len(), self.model.plans[group].len);
        for file in &self.model.files {
            // Empty files of the first group are created when it is opened.
            if file.len == 0 && (group == 0 || file.is_shared) {
                file.note_exists();
            }
        }
        self.groups[group] = Some(opened);
    }

    /// Gives the group a new cache, if the other group does not use the present one.
    pub(crate) fn renew_cache(&mut self, group: usize, rng: &mut Rng) {
        if self.caches.len() == 2 {
            self.caches[group] = new_cache(self.settings[group].policy, rng);
        }
    }

    fn open_group(&self, number: usize, group: &Arc<Group>) -> OpenGroup {
        OpenGroup {
            number,
            group: Arc::clone(group),
            may_exhaust: self.settings[number].policy == BudgetPolicy::Fail,
        }
    }

    /// All threads work on these groups. `beside` runs on the caller's thread meanwhile.
    pub(crate) fn round<R>(
        &mut self,
        numbers: &[usize],
        operations: u64,
        rng: &mut Rng,
        beside: impl FnOnce(&Model) -> R,
    ) -> R {
        let groups: Vec<(usize, Arc<Group>)> = numbers
            .iter()
            .map(|number| {
                (
                    *number,
                    Arc::new(self.groups[*number].take().expect("open")),
                )
            })
            .collect();
        let open: Vec<OpenGroup> = groups
            .iter()
            .map(|(number, group)| self.open_group(*number, group))
            .collect();
        let model = &self.model;
        let (results, result) = thread::scope(|scope| {
            let started: Vec<_> = (0..model.threads)
                .map(|me| {
                    let worker = Worker::new(model, open.clone(), me, Rng::new(rng.next()));
                    scope.spawn(move || worker.work(operations))
                })
                .collect();
            let result = beside(model);
            let joined = started.into_iter().map(thread::ScopedJoinHandle::join);
            (joined.collect::<Vec<_>>(), result)
        });
        drop(open);
        for tally in results {
            for (name, count) in tally.expect("a thread found a difference") {
                *self.tally.entry(name).or_default() += count;
            }
        }
        for (number, group) in groups {
            let group = Arc::into_inner(group).expect("no span is left");
            self.groups[number] = Some(group);
        }
        for stripe in &self.model.stripes {
            stripe.forget_past();
        }
        result
    }
}

fn entries_of(model: &Model, plan: &Plan) -> Vec<Entry> {
    let entries = plan.entries.iter().map(|entry| match &entry.kind {
        Kind::File { path, .. } => Entry::file(path, entry.len),
        Kind::Range { file, from } => {
            Entry::file_range(&model.files[*file].path, *from..*from + entry.len)
        }
        Kind::Padding => Entry::padding(entry.len),
    });
    entries.collect()
}

fn new_cache(policy: BudgetPolicy, rng: &mut Rng) -> OpenCache {
    let window_bytes = [4096, 4096, 8192, 65536][rng.below(4) as usize];
    let budget_bytes = (rng.below(4) + 1) * window_bytes as u64;
    let options = CacheOptions::default()
        .window_bytes(window_bytes)
        .budget_bytes(budget_bytes)
        .budget_policy(policy)
        .descriptors_max([16, 64, 256, 1024][rng.below(4) as usize])
        .copy_method(COPY_PATHS[rng.below(3) as usize]);
    OpenCache {
        cache: MappingCache::new(options).expect("a cache"),
        policy,
        budget_bytes,
    }
}

/// A directory on the filesystem of the tests, or on tmpfs, which is faster.
fn some_directory(rng: &mut Rng) -> TempDir {
    let on_tmpfs = tempfile::Builder::new()
        .prefix(support::temporary::PREFIX)
        .tempdir_in("/dev/shm");
    match on_tmpfs {
        Ok(directory) if rng.percent(50) => directory,
        _ => support::temp_dir(),
    }
}

fn create_parent(path: &Path) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("mkdir");
}

pub(crate) fn hard_link(original: &Path, link: &Path) {
    create_parent(link);
    fs::hard_link(original, link).expect("a link");
}
