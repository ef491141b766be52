//! What the kernel offers.

use std::fs;

use flatspan::snapshot::{TrackerKind, TrackerProbes, TrackerTrial, try_trackers};

use crate::doctor::{Finding, Verdict};

const PAGE_BYTES: usize = 4096;

/// What no tracker that watches page tables sees.
const BLIND_SPOTS: &str = "wp-async sees only stores through the region's own mapping. It does not see: other mappings and other \
    processes, pwrite to files that are mapped, io_uring READ_FIXED into a registered buffer and other devices that \
    write pinned memory, hole punching and MADV_REMOVE. Declare such changes (Writing::declare, discard), or choose \
    TrackerChoice::Compare. private-pages sees what the process has of its own, not who wrote it. After fork with pinned \
    pages, images are torn.";

pub(crate) fn look() -> Vec<Finding> {
    let probes = try_trackers();
    let mut findings = vec![kernel(), page_size()];
    findings.extend(userfaultfd(&probes));
    findings.extend(probes.trackers.iter().map(tracker));
    findings.push(pagemap_scan(&probes.trackers));
    findings.push(Finding::new(
        "blind spots of trackers",
        "known",
        Verdict::Note,
        BLIND_SPOTS,
    ));
    findings.extend([map_count(), overcommit(), huge_pages()]);
    findings
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn kernel() -> Finding {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (verdict, meaning) = if version < (5, 14) {
        (Verdict::Missing, "too old: 5.14 or later is needed")
    } else if version < (6, 7) {
        (
            Verdict::Note,
            "stores work; changed pages are found by comparing, since wp-async takes 6.7",
        )
    } else {
        (Verdict::Good, "new enough for everything")
    };
    Finding::new("kernel", release, verdict, meaning)
}

fn page_size() -> Finding {
    let bytes = rustix::param::page_size();
    let fits = bytes == PAGE_BYTES;
    let meaning = if fits {
        "regions can be made"
    } else {
        "regions need pages of 4096 bytes: stores can be looked at here, not opened"
    };
    let verdict = Verdict::good_if(fits, Verdict::Missing);
    Finding::new("page size", bytes.to_string(), verdict, meaning)
}

fn userfaultfd(probes: &TrackerProbes) -> [Finding; 2] {
    let (all, own) = (&probes.userfaultfd, &probes.userfaultfd_user_mode);
    let sysctl = read("/proc/sys/vm/unprivileged_userfaultfd");
    let sysctl = sysctl.unwrap_or_else(|| "not there".to_owned());
    let said = |opened: &Result<(), String>| match opened {
        Ok(()) => "can be opened".to_owned(),
        Err(error) => error.clone(),
    };
    [
        Finding::new(
            "userfaultfd with privilege",
            format!("{} (vm.unprivileged_userfaultfd {sysctl})", said(all)),
            Verdict::good_if(all.is_ok(), Verdict::Note),
            match all {
                Ok(()) => {
                    "faults of the kernel can be caught too: needed only where a page must be caught before it is written"
                }
                Err(_) => {
                    "not needed for wp-async; it takes CAP_SYS_PTRACE or vm.unprivileged_userfaultfd 1"
                }
            },
        ),
        Finding::new(
            "userfaultfd without privilege",
            said(own),
            Verdict::good_if(own.is_ok(), Verdict::Note),
            match own {
                Ok(()) => "enough for wp-async",
                Err(_) => {
                    "no wp-async: changed pages are found by reading all memory (a container may forbid the call)"
                }
            },
        ),
    ]
}

fn tracker(trial: &TrackerTrial) -> Finding {
    let (name, cost) = match trial.tracker {
        TrackerKind::WpAsync => ("tracker wp-async", "about 0.4 ms a checkpoint and GiB"),
        TrackerKind::PrivatePages => (
            "tracker private-pages",
            "about 10 ms a checkpoint and GiB, for stores that are mapped",
        ),
        _ => (
            "tracker compare",
            "60 ms a checkpoint and GiB at the least: it reads all memory",
        ),
    };
    match &trial.outcome {
        Ok(shown) => Finding::new(name, shown, Verdict::Good, format!("works: {cost}")),
        Err(error) => Finding::new(
            name,
            error,
            Verdict::Note,
            "another one is taken in its place",
        ),
    }
}

/// Both trackers that use it are the proof.
fn pagemap_scan(trials: &[TrackerTrial]) -> Finding {
    let works = trials.iter().any(|trial| {
        let uses = matches!(
            trial.tracker,
            TrackerKind::WpAsync | TrackerKind::PrivatePages
        );
        uses && trial.outcome.is_ok()
    });
    let (value, meaning) = if works {
        (
            "works",
            "changed pages are found in the page tables, without reading memory",
        )
    } else {
        (
            "does not work",
            "it takes Linux 6.7; changed pages are found by reading all memory",
        )
    };
    Finding::new(
        "PAGEMAP_SCAN",
        value,
        Verdict::good_if(works, Verdict::Note),
        meaning,
    )
}

fn map_count() -> Finding {
    let value = read("/proc/sys/vm/max_map_count").unwrap_or_else(|| "unknown".to_owned());
    let enough = value.parse().is_ok_and(|count: u64| count >= 65_530);
    Finding::new(
        "vm.max_map_count",
        value,
        Verdict::good_if(enough, Verdict::Note),
        "a store that is mapped takes one mapping a part; so do windows of the cache",
    )
}

fn overcommit() -> Finding {
    let value = read("/proc/sys/vm/overcommit_memory").unwrap_or_else(|| "unknown".to_owned());
    let strict = value == "2";
    let meaning = if strict {
        "memory is counted when it is asked for: a region counts in full, and reserve_bytes may be refused"
    } else {
        "reserving address space costs nothing; a region takes memory as it is written"
    };
    Finding::new(
        "vm.overcommit_memory",
        value,
        Verdict::good_if(!strict, Verdict::Note),
        meaning,
    )
}

fn huge_pages() -> Finding {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let value = setting.unwrap_or_else(|| "not there".to_owned());
    let meaning = if value.contains("[always]") {
        "regions may have huge pages: fewer faults; a first store after a scan may split one"
    } else if value.contains("[madvise]") {
        "regions have huge pages if StoreOptions::huge_pages asks for them"
    } else {
        "regions have no huge pages"
    };
    Finding::new("transparent huge pages", value, Verdict::Note, meaning)
}
