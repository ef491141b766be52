//! `flatspan doctor`: tests the kernel and a filesystem.

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::cli::DoctorArgs;
use crate::finding::{Finding, Status};
use crate::{doctor_filesystem, doctor_kernel, exit_code, output};

pub(crate) fn run(args: &DoctorArgs) -> Result<u8> {
    let directory = args.directory.display();
    let metadata =
        std::fs::metadata(&args.directory).with_context(|| format!("cannot access {directory}"))?;
    if !metadata.is_dir() {
        bail!("{directory} is not a directory");
    }
    let mut findings = doctor_kernel::findings();
    findings.extend(doctor_filesystem::findings(&args.directory));
    if args.json {
        output::json(&json!({
            "directory": args.directory.to_string_lossy(),
            "findings": findings.iter().map(object).collect::<Vec<_>>(),
        }))?;
    } else {
        findings.iter().try_for_each(print)?;
    }
    let is_unavailable = |finding: &Finding| finding.status == Status::Unavailable;
    Ok(if findings.iter().any(is_unavailable) {
        exit_code::FOUND
    } else {
        exit_code::OK
    })
}

fn print(finding: &Finding) -> Result<()> {
    let status = finding.status.name();
    output::line(&format!("{status:12}{}: {}", finding.name, finding.value))?;
    output::line(&format!("            {}", finding.explanation))
}

fn object(finding: &Finding) -> Value {
    json!({
        "name": finding.name,
        "value": finding.value,
        "status": finding.status.name(),
        "explanation": finding.explanation,
    })
}
