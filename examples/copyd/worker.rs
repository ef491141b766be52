//! A process of load, which may be killed at any moment.
//!
//! Standard input lists the work, one block per line: `put 7`, or `get 7` if it was put before.
//! Standard output lists the completed work in the same words, followed by the number of busy
//! replies: `put 7 0`. A block with wrong content is reported as `bad 7 0`.

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
        let (request, number) = line
            .split_once(' ')
            .context("a line of the input has no number")?;
        let number: u64 = number
            .parse()
            .context("a line of the input has an invalid number")?;
        match request {
            "put" => to_put.push(number),
            "get" => to_get.push(number),
            _ => bail!("unknown request {request:?}"),
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
        // Nothing was put yet, so there is nothing to get. One of the next iterations puts a block.
        let Some((mut outcome, number)) = next else {
            continue;
        };
        let (offset, len) = content::block(number, args.bytes);
        expected.resize(len as usize, 0);
        content::fill(args.seed, offset, &mut expected);
        if outcome == "put" {
            client.put(offset, &expected)?;
            to_get.push(number);
        } else if client.get(offset, len)? != expected {
            outcome = "bad";
        }
        let busy = std::mem::take(&mut client.busy);
        // One write for each line, so that a kill leaves no partial line.
        stdout.write_all(format!("{outcome} {number} {busy}\n").as_bytes())?;
        stdout.flush()?;
    }
    Ok(exit::OK)
}
