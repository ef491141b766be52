//! A strict reader of bencode (BEP 3) that borrows from its input.
//!
//! The input is hostile until proven otherwise: no claimed length is believed before it was compared with what
//! is left, nesting and the number of items are bounded, and each error says at which byte it arose. Integers
//! and string lengths must be canonical. Unsorted keys are tolerated, since torrents with them are in use and the
//! info-hash is over the original bytes anyway; a key given twice is refused, since readers disagree on which counts.

use thiserror::Error;

/// Deeper nesting is refused. A torrent needs 6 levels; BEP 52 file trees one for each folder.
pub(crate) const DEPTH_MAX: usize = 64;
/// More items are refused: an item in memory takes up to 56 bytes, in the input only two.
pub(crate) const ITEMS_MAX: usize = 1 << 22;

/// A value, where it stands and the bytes that it was read from.
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
    /// The kind, as a word for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Int(_) => "an integer",
            Value::Bytes(_) => "a string",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dictionary",
        }
    }
}

/// What is wrong, and at which byte of the input.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("byte {at}: {fault}")]
pub(crate) struct BencodeError {
    pub(crate) at: usize,
    pub(crate) fault: Fault,
}

/// The ways in which bytes are not bencode that we accept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Fault {
    #[error("the input ends too early")]
    Truncated,
    #[error("unexpected byte 0x{0:02x}")]
    UnexpectedByte(u8),
    #[error("a number with leading zeros or a minus zero")]
    NotCanonical,
    #[error("a number beyond 64 bits")]
    NumberTooLarge,
    #[error("a string of {claimed} bytes where {left} are left")]
    StringTooLong { claimed: u64, left: usize },
    #[error("a dictionary key that occurred before")]
    DuplicateKey,
    #[error("nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("more than {ITEMS_MAX} items")]
    TooManyItems,
    #[error("bytes after the end of the value")]
    TrailingBytes,
}

/// Reads the one value that `input` consists of.
pub(crate) fn parse(input: &[u8]) -> Result<Item<'_>, BencodeError> {
    let mut reader = Reader {
        input,
        at: 0,
        items: 0,
    };
    let item = reader.item(0)?;
    if reader.at < input.len() {
        return Err(reader.fault(Fault::TrailingBytes));
    }
    Ok(item)
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    items: usize,
}

impl<'a> Reader<'a> {
    fn item(&mut self, depth: usize) -> Result<Item<'a>, BencodeError> {
        self.items += 1;
        if self.items > ITEMS_MAX {
            return Err(self.fault(Fault::TooManyItems));
        }
        if depth > DEPTH_MAX {
            return Err(self.fault(Fault::TooDeep));
        }
        let at = self.at;
        let value = match self.peek()? {
            b'i' => Value::Int(self.int()?),
            b'0'..=b'9' => Value::Bytes(self.string()?),
            b'l' => Value::List(self.list(depth)?),
            b'd' => Value::Dict(self.dict(depth)?),
            other => return Err(self.fault(Fault::UnexpectedByte(other))),
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
        while !self.ended()? {
            items.push(self.item(depth + 1)?);
        }
        Ok(items)
    }

    fn dict(&mut self, depth: usize) -> Result<Vec<(&'a [u8], Item<'a>)>, BencodeError> {
        self.at += 1;
        let mut entries = Vec::new();
        let mut keys = Vec::new();
        while !self.ended()? {
            let at = self.at;
            let key = self.string()?;
            keys.push((key, at));
            entries.push((key, self.item(depth + 1)?));
        }
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(BencodeError {
                at: pair[1].1,
                fault: Fault::DuplicateKey,
            }),
            None => Ok(entries),
        }
    }

    fn int(&mut self) -> Result<i64, BencodeError> {
        self.at += 1;
        let at = self.at;
        let negative = self.peek()? == b'-';
        self.at += usize::from(negative);
        let magnitude = self.number(b'e')?;
        if negative && magnitude == 0 {
            return Err(BencodeError {
                at,
                fault: Fault::NotCanonical,
            });
        }
        let int = if negative {
            0i64.checked_sub_unsigned(magnitude)
        } else {
            0i64.checked_add_unsigned(magnitude)
        };
        int.ok_or(BencodeError {
            at,
            fault: Fault::NumberTooLarge,
        })
    }

    fn string(&mut self) -> Result<&'a [u8], BencodeError> {
        let at = self.at;
        let claimed = self.number(b':')?;
        let rest = &self.input[self.at..];
        let string = usize::try_from(claimed)
            .ok()
            .and_then(|length| rest.get(..length));
        let string = string.ok_or(BencodeError {
            at,
            fault: Fault::StringTooLong {
                claimed,
                left: rest.len(),
            },
        })?;
        self.at += string.len();
        Ok(string)
    }

    /// Canonical decimal digits and the byte that ends them.
    fn number(&mut self, end: u8) -> Result<u64, BencodeError> {
        let at = self.at;
        let mut number = 0u64;
        while self.peek()?.is_ascii_digit() {
            number = number
                .checked_mul(10)
                .and_then(|n| n.checked_add(u64::from(self.input[self.at] - b'0')))
                .ok_or(BencodeError {
                    at,
                    fault: Fault::NumberTooLarge,
                })?;
            self.at += 1;
        }
        let digits = &self.input[at..self.at];
        if digits.is_empty() || self.peek()? != end {
            let byte = self.peek()?;
            return Err(self.fault(Fault::UnexpectedByte(byte)));
        }
        if digits.len() > 1 && digits[0] == b'0' {
            return Err(BencodeError {
                at,
                fault: Fault::NotCanonical,
            });
        }
        self.at += 1;
        Ok(number)
    }

    /// Whether the list or dictionary ends here; steps over its end.
    fn ended(&mut self) -> Result<bool, BencodeError> {
        let ended = self.peek()? == b'e';
        self.at += usize::from(ended);
        Ok(ended)
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input
            .get(self.at)
            .copied()
            .ok_or_else(|| self.fault(Fault::Truncated))
    }

    fn fault(&self, fault: Fault) -> BencodeError {
        BencodeError { at: self.at, fault }
    }
}
