//! The bencode reader: accepted input, refused input with the position of the error, and agreement
//! with `bt_bencode`.

use bt_bencode::value::Number;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use crate::bencode::{BencodeError, BencodeProblem, DEPTH_MAX, Document, ITEMS_MAX, Value, parse};
use crate::bencode_writer::Node;

fn refused(input: &[u8]) -> (usize, BencodeProblem) {
    let BencodeError { at, problem } = parse(input).expect_err("refused");
    (at, problem)
}

#[test]
fn all_four_kinds_are_parsed() {
    let item = parse(b"d1:ai-7e1:b2:xy1:cl1:z0:ee").expect("bencode").item;
    let Value::Dict(entries) = item.value else {
        panic!("a dictionary")
    };
    let kinds: Vec<_> = entries.iter().map(|(_, item)| item.value.kind()).collect();
    assert_eq!(kinds, ["an integer", "a string", "a list"]);
    assert_eq!(entries[0].1.value, Value::Int(-7));
    assert_eq!((entries[1].1.at, entries[1].1.raw), (11, &b"2:xy"[..]));
}

#[test]
fn integers_must_fit_in_64_bits_and_are_reported_if_not_canonical() {
    let value = |input| parse(input).expect("bencode").item.value;
    assert_eq!(value(b"i0e"), Value::Int(0));
    assert_eq!(value(b"i9223372036854775807e"), Value::Int(i64::MAX));
    assert_eq!(value(b"i-9223372036854775808e"), Value::Int(i64::MIN));
    for input in [
        &b"i9223372036854775808e"[..],
        b"i-9223372036854775809e",
        b"i99999999999999999999e",
    ] {
        assert_eq!(refused(input).1, BencodeProblem::NumberTooLarge);
    }
    for (input, at) in [
        (&b"i-0e"[..], &[1][..]),
        (b"i00e", &[1]),
        (b"i01e", &[1]),
        (b"i-01e", &[2]),
        (b"i-00e", &[1, 2]),
        (b"01:a", &[0]),
        (b"00:", &[0]),
        (b"i0e", &[]),
        (b"i10e", &[]),
    ] {
        assert_eq!(parse(input).expect("bencode").non_canonical, at);
    }
    assert_eq!(value(b"i-007e"), Value::Int(-7));
    for input in [
        &b"ie"[..],
        b"i-e",
        b"i+1e",
        b"i 1e",
        b"i1.0e",
        b"i1",
        b"i--1e",
    ] {
        assert!(matches!(
            refused(input).1,
            BencodeProblem::UnexpectedByte(_) | BencodeProblem::Truncated
        ));
    }
}

#[test]
fn errors_report_the_byte_position() {
    assert_eq!(refused(b""), (0, BencodeProblem::Truncated));
    assert_eq!(refused(b"l1:a"), (4, BencodeProblem::Truncated));
    assert_eq!(
        refused(b"li1e?e"),
        (4, BencodeProblem::UnexpectedByte(b'?'))
    );
    assert_eq!(
        refused(b"di1ei2ee"),
        (1, BencodeProblem::UnexpectedByte(b'i'))
    );
    assert_eq!(refused(b"d1:ae"), (4, BencodeProblem::UnexpectedByte(b'e')));
    assert_eq!(
        refused(b"l5:abcde4:abe"),
        (
            8,
            BencodeProblem::StringTooLong {
                declared: 4,
                left: 3
            }
        )
    );
}

#[test]
fn declared_lengths_are_checked_against_the_input() {
    assert_eq!(
        refused(b"18446744073709551615:a").1,
        BencodeProblem::StringTooLong {
            declared: u64::MAX,
            left: 1
        }
    );
    assert_eq!(
        refused(b"18446744073709551616:a").1,
        BencodeProblem::NumberTooLarge
    );
}

#[test]
fn nesting_and_item_count_are_limited() {
    let nested = |depth: usize| [b"l".repeat(depth), b"e".repeat(depth)].concat();
    assert!(parse(&nested(DEPTH_MAX + 1)).is_ok());
    assert_eq!(refused(&nested(DEPTH_MAX + 2)).1, BencodeProblem::TooDeep);
    assert_eq!(refused(&b"l".repeat(10_000_000)).1, BencodeProblem::TooDeep);
    assert_eq!(
        refused(&b"d1:a".repeat(1_000_000)).1,
        BencodeProblem::TooDeep
    );
    let many = |count: usize| [&b"l"[..], &b"le".repeat(count - 1), b"e"].concat();
    assert!(parse(&many(ITEMS_MAX)).is_ok());
    assert_eq!(
        refused(&many(ITEMS_MAX + 1)).1,
        BencodeProblem::TooManyItems
    );
}

#[test]
fn unsorted_keys_are_accepted_and_repeated_keys_reported() {
    let repeated = |input| parse(input).expect("bencode").repeated_keys;
    assert!(repeated(b"d1:bi1e1:ai2ee").is_empty());
    assert_eq!(repeated(b"d1:ai1e1:ai2ee"), [7]);
    assert_eq!(repeated(b"d1:ai1e1:bi2e1:ai3ee"), [13]);
    assert_eq!(repeated(b"d1:ai1e1:ad1:xi1e1:xi2ee1:ai3ee"), [7, 17, 24]);
}

#[test]
fn bytes_after_the_value_are_reported() {
    assert_eq!(parse(b"i1ei2e").expect("bencode").rest, b"i2e");
    assert_eq!(parse(b"i1e").expect("bencode").rest, b"");
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Node::Int),
        vec(any::<u8>(), 0..20).prop_map(Node::Bytes)
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Node::List),
            btree_map(vec(any::<u8>(), 0..6), inner, 0..6).prop_map(Node::Dict),
        ]
    })
}

/// Asserts that `bt_bencode` reads the same value.
fn oracle(value: &bt_bencode::Value) -> Node {
    match value {
        bt_bencode::Value::Int(Number::Signed(int)) => Node::Int(*int),
        bt_bencode::Value::Int(Number::Unsigned(int)) => {
            Node::Int(i64::try_from(*int).expect("63 bits"))
        }
        bt_bencode::Value::ByteStr(bytes) => Node::Bytes(bytes.to_vec()),
        bt_bencode::Value::List(values) => Node::List(values.iter().map(oracle).collect()),
        bt_bencode::Value::Dict(entries) => Node::Dict(
            entries
                .iter()
                .map(|(key, value)| (key.to_vec(), oracle(value)))
                .collect(),
        ),
    }
}

proptest! {
    #[test]
    fn written_values_parse_to_the_same_values(node in node()) {
        let bytes = node.encode();
        let item = parse(&bytes).expect("own bencode").item;
        prop_assert_eq!(item.raw, &bytes[..]);
        prop_assert_eq!(Node::from(&item), node);
    }

    #[test]
    fn bt_bencode_reads_the_same_values(node in node()) {
        let bytes = node.encode();
        let value: bt_bencode::Value = bt_bencode::from_slice(&bytes).expect("bencode");
        prop_assert_eq!(oracle(&value), node);
        prop_assert_eq!(bt_bencode::to_vec(&value).expect("bencode"), bytes);
    }

    #[test]
    fn input_refused_by_bt_bencode_is_refused_or_reported(node in node(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = node.encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let is_canonical =
            |document: &Document<'_>| document.non_canonical.is_empty() && document.repeated_keys.is_empty();
        if let Some(document) = parse(&bytes).ok().filter(is_canonical) {
            let item = document.item;
            let value: bt_bencode::Value = bt_bencode::from_slice(item.raw).expect("bencode");
            prop_assert_eq!(oracle(&value), Node::from(&item));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        crate::property::check(&bytes);
    }
}
