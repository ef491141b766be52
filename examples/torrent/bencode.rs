//! A reader of bencode (BEP 3) that borrows from its input.
//!
//! The reader does not trust its input. It compares every declared length with the remaining input,
//! limits nesting and the number of items, and reports the byte of each error.
//!
//! Torrents are in use that are not canonical, and the info-hash is computed from the original
//! bytes. Unsorted keys are therefore accepted. Bytes after the value, numbers with leading zeros
//! and repeated keys are accepted and reported, so that the caller can refuse them where readers
//! would disagree.

use thiserror::Error;

/// Deeper nesting is refused. A torrent needs 6 levels; a BEP 52 file tree needs one per directory.
pub(crate) const DEPTH_MAX: usize = 64;
/// More items are refused: an item takes up to 56 bytes in memory, but only two in the input.
pub(crate) const ITEMS_MAX: usize = 1 << 22;

/// A value, its position, and the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) at: usize,
    pub(crate) raw: &'a [u8],
    pub(crate) value: Value<'a>,
}

/// The four kinds of bencode. Dictionaries keep the order of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    List(Vec<Item<'a>>),
    Dict(Vec<(&'a [u8], Item<'a>)>),
}

impl Value<'_> {
    /// The kind, as a phrase for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "an integer",
            Value::Bytes(_) => "a string",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
        }
    }
}

/// The value that the input starts with, and the deviations from canonical bencode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document<'a> {
    pub(crate) item: Item<'a>,
    /// The bytes after the value.
    pub(crate) rest: &'a [u8],
    /// Positions of numbers with leading zeros and of negative zeros, in ascending order.
    pub(crate) non_canonical: Vec<usize>,
    /// Positions of keys that an earlier key of their dictionary equals, in ascending order.
    pub(crate) repeated_keys: Vec<usize>,
}

/// The error, and the byte of the input at which it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("byte {at}: {problem}")]
pub(crate) struct BencodeError {
    pub(crate) at: usize,
    pub(crate) problem: BencodeProblem,
}

/// The reasons to refuse input.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BencodeProblem {
    #[error("unexpected end of input")]
    Truncated,
    #[error("unexpected byte 0x{0:02x}")]
    UnexpectedByte(u8),
    #[error("a number that does not fit in 64 bits")]
    NumberTooLarge,
    #[error("a string of {declared} bytes, but only {left} bytes remain")]
    StringTooLong { declared: u64, left: usize },
    #[error("nested more than {DEPTH_MAX} levels deep")]
    TooDeep,
    #[error("more than {ITEMS_MAX} items")]
    TooManyItems,
}

/// Reads the value that `input` starts with.
pub(crate) fn parse(input: &[u8]) -> Result<Document<'_>, BencodeError> {
    let mut reader = Reader {
        input,
        at: 0,
        items: 0,
        non_canonical: Vec::new(),
        repeated_keys: Vec::new(),
    };
    let item = reader.item(0)?;
    // The keys of an inner dictionary are found before those of its outer one.
    reader.repeated_keys.sort_unstable();
    reader.non_canonical.sort_unstable();
    Ok(Document {
        item,
        rest: &input[reader.at..],
        non_canonical: reader.non_canonical,
        repeated_keys: reader.repeated_keys,
    })
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    items: usize,
    non_canonical: Vec<usize>,
    repeated_keys: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, BencodeError> {
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(self.error(BencodeProblem::TooManyItems));
        }
        if depth > DEPTH_MAX {
            return Err(self.error(BencodeProblem::TooDeep));
        }
        let at = self.at;
        let value = match self.peek()? {
            b'i' => Value::Int(self.int()?),
            b'0'..=b'9' => Value::Bytes(self.string()?),
            b'l' => Value::List(self.list(depth)?),
            b'd' => Value::Dict(self.dict(depth)?),
            other => return Err(self.error(BencodeProblem::UnexpectedByte(other))),
        };
        Ok(Item {
            at,
            raw: &self.input[at..self.at],
            value,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Item<'a>>, BencodeError> {
        self.at += 1;
        let mut items = Vec::new();
        while !self.skip_end()? {
            items.push(self.item(depth + 1)?);
        }
        Ok(items)
    }

    fn dict(&mut self, depth: usize) -> Result<Vec<(&'a [u8], Item<'a>)>, BencodeError> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut keys = Vec::new();
        while !self.skip_end()? {
            let at = self.at;
            let key = self.string()?;
            keys.push((key, at));
            entries.push((key, self.item(depth + 1)?));
        }
        keys.sort_unstable();
        let repeated = keys.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        self.repeated_keys.extend(repeated.map(|pair| pair[1].1));
        Ok(entries)
    }

    fn int(&mut self) -> Result<i64, BencodeError> {
        self.at += 1;
        let at = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let magnitude = self.number(b'e')?;
        if negative && magnitude == 0 {
            self.non_canonical.push(at);
        }
        let int = if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            0i64.checked_add_unsigned(magnitude)
        };
        int.ok_or(BencodeError {
            at,
            problem: BencodeProblem::NumberTooLarge,
        })
    }

    fn string(&mut self) -> Result<&'a [u8], BencodeError> {
        let at = self.at;
        let declared = self.number(b':')?;
        let rest = &self.input[self.at..];
        let string = usize::try_from(declared)
            .ok()
            .and_then(|length| rest.get(..length))
            .ok_or(BencodeError {
                at,
                problem: BencodeProblem::StringTooLong {
                    declared,
                    left: rest.len(),
                },
            })?;
        self.at += string.len();
        Ok(string)
    }

    /// Reads decimal digits and the byte that ends them.
    fn number(&mut self, end: u8) -> Result<u64, BencodeError> {
        let at = self.at;
        let mut number = 0u64;
        while self.peek()?.is_ascii_digit() {
            number = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(self.input[self.at] - b'0')))
                .ok_or(BencodeError {
                    at,
                    problem: BencodeProblem::NumberTooLarge,
                })?;
            self.at += 1;
        }
        let digits = &self.input[at..self.at];
        if digits.is_empty() || self.peek()? != end {
            let byte = self.peek()?;
            return Err(self.error(BencodeProblem::UnexpectedByte(byte)));
        }
        if digits.len() > 1 && digits[0] == b'0' {
            self.non_canonical.push(at);
        }
        self.at += 1;
        Ok(number)
    }

    /// Returns whether the list or dictionary ends here, and skips its end.
    fn skip_end(&mut self) -> Result<bool, BencodeError> {
        let ended = self.peek()? == b'e';
        self.at += usize::from(ended);
        Ok(ended)
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input
            .get(self.at)
            .copied()
            .ok_or_else(|| self.error(BencodeProblem::Truncated))
    }

    fn error(&self, problem: BencodeProblem) -> BencodeError {
        BencodeError {
            at: self.at,
            problem,
        }
    }
}
