//! Properties of the kernel.

use std::fs;

use flatspan::snapshot::{TrackerKind, TrackerProbe, TrackerProbes, probe_trackers};

use crate::finding::{Finding, Status};

const PAGE_BYTES: usize = 4096;

/// Changes that trackers based on page tables do not detect.
const BLIND_SPOTS: &str = "wp-async detects only stores through the region's own mapping. It does not detect other mappings and \
    other processes, pwrite(2) to mapped files, io_uring READ_FIXED into a registered buffer, other devices that write \
    to pinned memory, hole punching, and MADV_REMOVE. Mark such changes (WriteGuard::mark_dirty, discard), or choose \
    TrackerChoice::HashCompare. private-pages detects the private pages of the process, not the writer. After a fork with \
    pinned pages, images are torn.";

pub(crate) fn findings() -> Vec<Finding> {
    let probes = probe_trackers();
    let mut findings = vec![kernel(), page_size()];
    findings.extend(userfaultfd(&probes));
    findings.extend(probes.trackers.iter().map(tracker));
    findings.push(pagemap_scan(&probes.trackers));
    findings.push(Finding::new(
        "blind spots of trackers",
        "known",
        Status::Warning,
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
    let (status, explanation) = if version < (5, 14) {
        (Status::Unavailable, "too old: stores need 5.14 or later")
    } else if version < (6, 7) {
        (
            Status::Warning,
            "stores work; dirty pages are found by comparing hashes, since wp-async needs 6.7",
        )
    } else {
        (Status::Ok, "supports all trackers")
    };
    Finding::new("kernel", release, status, explanation)
}

fn page_size() -> Finding {
    let bytes = rustix::param::page_size();
    let fits = bytes == PAGE_BYTES;
    let explanation = if fits {
        "regions can be created"
    } else {
        "regions need pages of 4096 bytes: stores can be read here but not opened"
    };
    let status = Status::ok_if(fits, Status::Unavailable);
    Finding::new("page size", bytes.to_string(), status, explanation)
}

fn userfaultfd(probes: &TrackerProbes) -> [Finding; 2] {
    let (kernel_mode, user_mode) = (&probes.userfaultfd, &probes.userfaultfd_user_mode);
    let sysctl = read("/proc/sys/vm/unprivileged_userfaultfd");
    let sysctl = sysctl.unwrap_or_else(|| "missing".to_owned());
    let outcome = |opened: &Result<(), String>| match opened {
        Ok(()) => "can be opened".to_owned(),
        Err(error) => error.clone(),
    };
    let kernel_mode_explanation = if kernel_mode.is_ok() {
        "faults in the kernel can be handled too; no tracker of stores needs that"
    } else {
        "needs CAP_SYS_PTRACE or vm.unprivileged_userfaultfd 1; wp-async works without"
    };
    let user_mode_explanation = if user_mode.is_ok() {
        "sufficient for wp-async"
    } else {
        "wp-async is unavailable: dirty pages are found by reading all memory (a container may forbid the call)"
    };
    [
        Finding::new(
            "userfaultfd with privilege",
            format!(
                "{} (vm.unprivileged_userfaultfd {sysctl})",
                outcome(kernel_mode)
            ),
            Status::ok_if(kernel_mode.is_ok(), Status::Warning),
            kernel_mode_explanation,
        ),
        Finding::new(
            "userfaultfd without privilege",
            outcome(user_mode),
            Status::ok_if(user_mode.is_ok(), Status::Warning),
            user_mode_explanation,
        ),
    ]
}

fn tracker(probe: &TrackerProbe) -> Finding {
    let (name, cost) = match probe.tracker {
        TrackerKind::WpAsync => ("tracker wp-async", "about 0.4 ms per checkpoint and GiB"),
        TrackerKind::PrivatePages => (
            "tracker private-pages",
            "about 10 ms per checkpoint and GiB, for mapped stores",
        ),
        _ => (
            "tracker hash-compare",
            "at least 60 ms per checkpoint and GiB, since it reads all memory",
        ),
    };
    match &probe.outcome {
        Ok(detail) => Finding::new(name, detail, Status::Ok, format!("works: {cost}")),
        Err(error) => Finding::new(
            name,
            error,
            Status::Warning,
            "stores use another tracker instead",
        ),
    }
}

/// Returns the finding on `PAGEMAP_SCAN`, which works if one of the two trackers that use it does.
fn pagemap_scan(probes: &[TrackerProbe]) -> Finding {
    let works = probes.iter().any(|probe| {
        let uses_it = matches!(
            probe.tracker,
            TrackerKind::WpAsync | TrackerKind::PrivatePages
        );
        uses_it && probe.outcome.is_ok()
    });
    let (value, explanation) = if works {
        (
            "works",
            "dirty pages are found in the page tables, without reading memory",
        )
    } else {
        (
            "does not work",
            "needs Linux 6.7; dirty pages are found by reading all memory",
        )
    };
    Finding::new(
        "PAGEMAP_SCAN",
        value,
        Status::ok_if(works, Status::Warning),
        explanation,
    )
}

fn map_count() -> Finding {
    let value = read("/proc/sys/vm/max_map_count").unwrap_or_else(|| "unknown".to_owned());
    let enough = value.parse().is_ok_and(|count: u64| count >= 65_530);
    Finding::new(
        "vm.max_map_count",
        value,
        Status::ok_if(enough, Status::Warning),
        "a mapped store needs one mapping per part file, the cache one per window",
    )
}

fn overcommit() -> Finding {
    let value = read("/proc/sys/vm/overcommit_memory").unwrap_or_else(|| "unknown".to_owned());
    let strict = value == "2";
    let explanation = if strict {
        "memory is accounted when it is reserved: a region counts in full, and reserve_bytes may be refused"
    } else {
        "address reservations are free; a region uses memory as it is written"
    };
    Finding::new(
        "vm.overcommit_memory",
        value,
        Status::ok_if(!strict, Status::Warning),
        explanation,
    )
}

fn huge_pages() -> Finding {
    let setting = read("/sys/kernel/mm/transparent_hugepage/enabled");
    let value = setting.unwrap_or_else(|| "missing".to_owned());
    let explanation = if value.contains("[always]") {
        "regions may use huge pages, with fewer page faults; the first store after a scan may split one"
    } else if value.contains("[madvise]") {
        "regions use huge pages if StoreOptions::huge_pages is set"
    } else {
        "regions use no huge pages"
    };
    Finding::new(
        "transparent huge pages",
        value,
        Status::Warning,
        explanation,
    )
}
