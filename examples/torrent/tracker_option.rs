//! The option `--tracker`: a tier of URLs.

const SCHEMES: [&str; 5] = ["http", "https", "udp", "ws", "wss"];

/// A tier of trackers that the user gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tier(pub(crate) Vec<String>);

/// Parses the URLs of a tier, which commas separate. URLs may contain commas: one separates only if
/// the scheme of a URL follows.
pub(crate) fn parse_tier(text: &str) -> Result<Tier, String> {
    let mut urls = Vec::new();
    let mut start = 0;
    for (comma, _) in text.match_indices(',') {
        if starts_with_scheme(text[comma + 1..].trim_start()) {
            urls.push(check_url(text[start..comma].trim())?);
            start = comma + 1;
        }
    }
    urls.push(check_url(text[start..].trim())?);
    Ok(Tier(urls))
}

fn starts_with_scheme(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once("://") else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

fn check_url(url: &str) -> Result<String, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!(
            "`{url}` is not a URL such as http://HOST/announce or udp://HOST:PORT"
        ));
    };
    if !SCHEMES
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        let known = SCHEMES.join(", ");
        return Err(format!(
            "`{url}`: a tracker has one of the schemes {known}, not `{scheme}`"
        ));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() || host.contains([',', '"', '\\', '<', '>']) {
        return Err(format!("`{url}` has no valid host name"));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{url}` contains whitespace; write it as %20"));
    }
    Ok(url.to_owned())
}
