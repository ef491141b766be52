//! A process of load, which may be killed at any instant.
//!
//! Standard input says what is to be done, a block a line: `put 7`, or `get 7` if it was put before. Standard
//! output says what was done, in the same words, and how often it had been busy: `put 7 0`. A block that comes back
//! wrong is `bad 7 0`.

use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result, bail};

use crate::cli::WorkerArgs;
use crate::client::Client;
use crate::content::{self, Random};
use crate::exit;

pub(crate) fn run(args: &WorkerArgs) -> Result<u8> {
    let mut work = String::new();
    std::io::stdin().read_to_string(&mut work)?;
    let (mut to_put, mut to_get) = (Vec::new(), Vec::new());
    for line in work.lines() {
        let (what, number) = line.split_once(' ').context("a line without a number")?;
        let number: u64 = number.parse().context("not a number")?;
        match what {
            "put" => to_put.push(number),
            "get" => to_get.push(number),
            _ => bail!("what is {what:?}?"),
        }
    }
    let mut client = Client::connect(&args.server)?;
    let mut random = Random::new(args.order);
    let mut stdout = std::io::stdout();
    let mut expected = Vec::new();
    while !to_put.is_empty() || !to_get.is_empty() {
        let gets_next = to_put.is_empty() || random.below(2) == 0;
        let next = if gets_next {
            random.take(&mut to_get).map(|number| ("get", number))
        } else {
            random.take(&mut to_put).map(|number| ("put", number))
        };
        // Nothing was put yet that could be asked for: then the next turn puts, or the one after it.
        let Some((mut what, number)) = next else {
            continue;
        };
        let (offset, len) = content::block(number, args.bytes);
        expected.resize(len as usize, 0);
        content::fill(args.seed, offset, &mut expected);
        if what == "put" {
            client.put(offset, &expected)?;
            to_get.push(number);
        } else if client.get(offset, len)? != expected {
            what = "bad";
        }
        let busy = std::mem::take(&mut client.busy);
        // One write for each, so that a kill leaves no half of a line behind.
        stdout.write_all(format!("{what} {number} {busy}\n").as_bytes())?;
        stdout.flush()?;
    }
    Ok(exit::OK)
}
