//! Changes of the length of a file, by its home alone.

use super::{
    activity::{Active, Use},
    allowed::Allowed,
    changes::Changes,
    content::Content,
    worker::{OpenGroup, Worker},
};

impl Worker<'_> {
    pub(crate) fn set_file_len(&mut self, open: &OpenGroup) {
        let model = self.model;
        let plan = &model.plans[open.number];
        let candidates: Vec<usize> = (0..model.files.len())
            .filter(|file| model.files[*file].home == self.me)
            .filter(|file| model.files[*file].fixed < model.files[*file].len)
            .collect();
        if candidates.is_empty() {
            return;
        }
        let number = candidates[self.rng.below(candidates.len() as u64) as usize];
        let file = &model.files[number];
        let Some(entry) = plan.whole_entry(number) else {
            return;
        };
        let bytes = match self.rng.below(4) {
            0 => file.fixed,
            1 => file.len,
            _ => file.fixed + self.rng.below(file.len - file.fixed + 1),
        };
        // Windows that are mapped now must not be used past the new end.
        self.span_end(number, file.len);
        let active = Active::new(Use::WriteCopy, [&file.activity]);
        let mut changes = Changes::new(model, model.next_number(self.me));
        for number in &file.stripes {
            let stripe = &model.stripes[*number];
            if stripe.end() > bytes {
                let from = bytes.saturating_sub(stripe.start) as usize;
                let zeros = Content::zeros(stripe.len - from);
                changes.replace_in(*number, &(from..stripe.len), zeros);
            }
        }
        let floor = file.begin_truncation(bytes);
        changes.begin();
        match open.group.set_file_len(entry, bytes) {
            Ok(()) => {
                changes.settle();
                file.note_reaches(bytes);
                self.count("set_file_len");
                drop(active);
                self.span_end(number, bytes);
            }
            Err(error) => {
                let allowed = Allowed {
                    locked: active.had_conflict(),
                    pinned: true,
                    missing: !file.exists(),
                    ..Allowed::default()
                };
                self.refused("set_file_len", allowed, &error);
                changes.withdraw();
                if floor > 0 {
                    file.note_reaches(floor);
                }
            }
        }
    }

    /// In every group, a span near this offset of a file.
    fn span_end(&mut self, file: usize, offset: u64) {
        let from = offset.saturating_sub(self.rng.below(6000));
        let to = offset + self.rng.below(6000);
        for open in self.groups.clone() {
            let plan = &self.model.plans[open.number];
            if let Some(entry) = plan.whole_entry(file)
                && from < plan.entries[entry].len
            {
                let start = open
                    .group
                    .layout()
                    .entry_range(entry)
                    .expect("a file")
                    .start;
                let to = to.min(plan.entries[entry].len);
                if let Some((active, span, _)) = self.span(&open, &(start + from..start + to)) {
                    drop(span);
                    drop(active);
                }
            }
        }
    }

    /// Checks the length of a file, and creates one that is missing.
    pub(crate) fn query_file(&mut self, open: &OpenGroup) {
        let entries = &self.model.plans[open.number].entries;
        let entry = self.rng.below(entries.len() as u64) as usize;
        let stripe = self.model.plans[open.number]
            .units
            .iter()
            .find(|unit| unit.entry == entry)
            .and_then(|unit| unit.stripe);
        let Some(stripe) = stripe else {
            return;
        };
        let file = &self.model.files[self.model.stripes[stripe].file];
        let mark = file.mark();
        let allowed = Allowed {
            missing: !mark.existed,
            exists: true,
            ..Allowed::default()
        };
        if self.rng.percent(10) {
            match open.group.create_file(entry) {
                Ok(()) => assert!(!mark.existed, "{} was created twice", file.path),
                Err(error) => self.refused("create_file", allowed, &error),
            }
            file.note_exists();
        }
        match open.group.actual_bytes(entry) {
            Ok(bytes) => {
                let certain = file.certain_since(mark);
                assert!(
                    (certain..=file.len).contains(&bytes),
                    "{}: {bytes} bytes instead of {certain} to {}",
                    file.path,
                    file.len
                );
                self.count("actual_bytes");
            }
            Err(error) => self.refused("actual_bytes", allowed, &error),
        }
        if let Err(error) = open.group.allocated_bytes(entry) {
            self.refused("allocated_bytes", allowed, &error);
        }
        open.group.preallocation_status(entry).expect("a file");
    }
}
