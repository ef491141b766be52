//! The URLs of trackers in a torrent. They are only shown, so that any text is accepted.

use crate::bencode::{Item, Value};
use crate::fields::Fields;
use crate::findings::Findings;

/// The trackers of `announce-list` if it has any (BEP 12), and of `announce` otherwise.
pub(crate) fn parse_trackers(outer: &Fields<'_, '_>, findings: &mut Findings) -> Vec<Vec<String>> {
    let mut tiers = Vec::new();
    if let Some(item) = outer.first("announce-list") {
        for tier in list(item, "announce-list", findings) {
            let urls = list(tier, "announce-list", findings).iter();
            let urls = urls.filter_map(|url| parse_url(url, "announce-list", findings));
            tiers.push(urls.collect());
        }
    }
    tiers.retain(|urls: &Vec<_>| !urls.is_empty());
    let announce = outer.first("announce");
    let url = announce.and_then(|item| parse_url(item, "announce", findings));
    match url {
        Some(url) if tiers.is_empty() => vec![vec![url]],
        _ => tiers,
    }
}

fn list<'i, 'a>(item: &'i Item<'a>, name: &str, findings: &mut Findings) -> &'i [Item<'a>] {
    let Value::List(items) = &item.value else {
        warn_of_type(item, name, "a list", findings);
        return &[];
    };
    items
}

fn parse_url(item: &Item<'_>, name: &str, findings: &mut Findings) -> Option<String> {
    let Value::Bytes(bytes) = item.value else {
        warn_of_type(item, name, "a string", findings);
        return None;
    };
    let text = String::from_utf8_lossy(bytes);
    let url = text.trim();
    if url.is_empty() {
        findings.warn(name, item.at, "is an empty URL; ignored");
        return None;
    }
    if url.len() < text.len() {
        findings.warn(
            name,
            item.at,
            "has whitespace around the URL, which is ignored",
        );
    }
    Some(url.to_owned())
}

fn warn_of_type(item: &Item<'_>, name: &str, expected: &str, findings: &mut Findings) {
    let found = item.value.kind();
    let what = format!("is {found} instead of {expected}; ignored");
    findings.warn(name, item.at, &what);
}
