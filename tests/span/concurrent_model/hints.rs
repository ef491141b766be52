//! Operations that change no bytes: eviction, advice, syncs, preallocation.

use std::time::Duration;

use flatspan::mapping_cache::{Advice, FlushMode};

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    worker::{OpenGroup, Worker},
};

const ADVICE: [Advice; 8] = [
    Advice::Normal,
    Advice::Random,
    Advice::Sequential,
    Advice::WillNeed,
    Advice::DontNeed,
    Advice::HugePages,
    Advice::Lock,
    Advice::Unlock,
];

impl Worker<'_> {
    pub(crate) fn hint(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let group = &open.group;
        match self.rng.below(1000) {
            0..200 => drop(group.evict(range).expect("evict")),
            200..300 => group.flush(range, FlushMode::Async).expect("flush"),
            300..310 => group.flush(range, FlushMode::Sync).expect("flush"),
            310..312 => group.sync_all().expect("sync_all"),
            312..400 => group.prefetch(range).expect("prefetch"),
            400..550 => self.advise(open),
            550..650 => self.is_resident(open),
            650..720 => self.reserve(open),
            720..850 => self.query_file(open),
            850..950 => self.next_data(open),
            950..955 => self.drop_page_cache(open),
            _ => drop(group.cache().evict_idle(Duration::ZERO)),
        }
        self.count("hint");
    }

    fn advise(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        let reading = self.reading(open, &range);
        let advice = ADVICE[self.rng.below(ADVICE.len() as u64) as usize];
        if let Err(error) = open.group.advise(range.clone(), advice) {
            let locks = advice == Advice::Lock;
            let allowed = Allowed {
                missing: reading.may_be_missing(),
                short: locks && reading.may_be_short(),
                lost: locks && reading.may_be_short(),
                exhausted: locks && open.may_exhaust,
                ..Allowed::default()
            };
            self.refused("advise", allowed, &error);
        }
        if advice == Advice::Lock {
            // Locked windows are pinned: only a few may be locked at a time.
            let unlocked = open.group.advise(range, Advice::Unlock);
            if let Err(error) = unlocked {
                self.refused("advise", Allowed::default(), &error);
            }
        }
    }

    fn is_resident(&mut self, open: &OpenGroup) {
        let range = self.any_range(open);
        match open.group.is_resident(range) {
            Ok(_) => self.count("is_resident"),
            Err(error) => {
                let allowed = Allowed {
                    exhausted: open.may_exhaust,
                    ..Allowed::default()
                };
                self.refused("is_resident", allowed, &error);
            }
        }
    }

    fn reserve(&mut self, open: &OpenGroup) {
        let Some(range) = self.own_range(open, true) else {
            return;
        };
        open.group
            .reserve(range.clone())
            .expect("the disk has room");
        self.note_exist(open, &range);
        self.count("reserve");
    }

    fn drop_page_cache(&mut self, open: &OpenGroup) {
        // It unmaps all files, which counts as a copy.
        let files = self.model.files.iter();
        let _active = Active::new(Use::WriteCopy, files.map(|file| &file.activity));
        if let Err(error) = open.group.drop_page_cache() {
            let allowed = Allowed {
                pinned: true,
                ..Allowed::default()
            };
            self.refused("drop_page_cache", allowed, &error);
        }
    }
}
