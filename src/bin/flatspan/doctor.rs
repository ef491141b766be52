//! `flatspan doctor`: what is offered here, and what that means.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::{doctor_disk, doctor_system, exit, output};

/// How a finding is to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// To be known; nothing is missing.
    Note,
    /// A store does not work without, or loses what it promises.
    Missing,
}

/// One thing that was looked at.
pub(crate) struct Finding {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) verdict: Verdict,
    pub(crate) meaning: String,
}

impl Finding {
    pub(crate) fn new(
        name: &'static str,
        value: impl Into<String>,
        verdict: Verdict,
        meaning: impl Into<String>,
    ) -> Self {
        Self {
            name,
            value: value.into(),
            verdict,
            meaning: meaning.into(),
        }
    }
}

impl Verdict {
    pub(crate) fn good_if(good: bool, otherwise: Self) -> Self {
        if good { Self::Good } else { otherwise }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Missing => "missing",
        }
    }
}

pub(crate) fn run(args: &DoctorArgs) -> Result<u8> {
    let found = std::fs::metadata(&args.dir);
    let found = found.with_context(|| format!("cannot look at {}", args.dir.display()))?;
    if !found.is_dir() {
        bail!("{} is no directory", args.dir.display());
    }
    let mut findings = doctor_system::look();
    findings.extend(doctor_disk::look(&args.dir));
    if args.json {
        output::json(&json!({
            "dir": args.dir.to_string_lossy(),
            "findings": findings.iter().map(object).collect::<Vec<_>>(),
        }))?;
    } else {
        findings.iter().try_for_each(print)?
    }
    let missing = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Missing);
    Ok(if missing { exit::FOUND } else { exit::OK })
}

fn print(finding: &Finding) -> Result<()> {
    let verdict = finding.verdict.name();
    output::line(&format!("{verdict:8}{}: {}", finding.name, finding.value))?;
    output::line(&format!("        {}", finding.meaning))
}

fn object(finding: &Finding) -> Value {
    json!({
        "name": finding.name,
        "value": finding.value,
        "verdict": finding.verdict.name(),
        "meaning": finding.meaning,
    })
}
