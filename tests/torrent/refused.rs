//! Torrents and content that are refused with a reason. Everything whose bencode parses is shown.

use std::path::Path;

use serde_json::Value;

use crate::bytes::{
    PIECE_BYTES, Scene, dict, file, info, int, length, list, multi, path, paths, text, torrent,
};
use crate::program::{expect, noise, put, stderr, stdout};
use crate::support;

/// Expects that the torrent is shown, that verify refuses it, and that both print the reason.
fn assert_refused(bytes: &[u8], reason: &str) -> Value {
    let scene = Scene::new(bytes);
    let shown = scene.show();
    assert!(
        shown["refusal"]
            .as_str()
            .is_some_and(|text| text.contains(reason)),
        "{reason:?} is not in {shown}"
    );
    let text = stdout(&expect(0, &[Path::new("show"), &scene.torrent]));
    assert!(
        text.contains("refused       ") && text.contains(reason),
        "{text}"
    );
    let said = stderr(&scene.run_verify(3, &[]));
    assert!(
        said.contains(reason),
        "{said:?} does not contain {reason:?}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    shown
}

/// A file of a file tree.
fn leaf(bytes: usize) -> Vec<u8> {
    let fields = [("length", length(bytes)), ("pieces root", text([7; 32]))];
    dict(&[("", dict(&fields))])
}

/// A hybrid torrent of a file of two pieces and a file of 4 bytes, with this list of version 1.
fn hybrid(files: &[Vec<u8>], tree: Vec<u8>) -> Vec<u8> {
    hybrid_of(&[("files", list(files)), ("file tree", tree)])
}

fn hybrid_of(fields: &[(&str, Vec<u8>)]) -> Vec<u8> {
    torrent(info(
        &[fields, &[("meta version", int(2))]].concat(),
        &content(),
    ))
}

fn content() -> Vec<u8> {
    [noise(1, 2 * PIECE_BYTES), b"1234".to_vec()].concat()
}

fn files() -> [Vec<u8>; 2] {
    [file(&["a"], 2 * PIECE_BYTES), file(&["b", "c"], 4)]
}

fn tree() -> Vec<u8> {
    dict(&[("a", leaf(2 * PIECE_BYTES)), ("b", dict(&[("c", leaf(4))]))])
}

#[test]
fn a_hybrid_torrent_verifies_but_version_2_is_reported_as_not_verified() {
    let scene = Scene::new(&hybrid(&files(), tree()));
    let scene = scene
        .with("d/a", &noise(1, 2 * PIECE_BYTES))
        .with("d/b/c", b"1234");
    scene.assert_accepted("version 2 (BEP 52) are not verified");
    let said = stdout(&scene.run_verify(0, &[]));
    assert!(
        said.contains("ok, 2 files") && said.contains("hashes of version 2 not verified"),
        "{said}"
    );
}

#[test]
fn a_hybrid_torrent_of_one_file_verifies() {
    let tree = dict(&[("d", leaf(content().len()))]);
    let scene = Scene::new(&hybrid_of(&[
        ("length", length(content().len())),
        ("file tree", tree),
    ]));
    let scene = scene.with("d", &content());
    scene.assert_accepted("version 2 (BEP 52) are not verified");
}

#[test]
fn a_hybrid_torrent_with_padding_verifies() {
    let padding = dict(&[
        ("attr", text("p")),
        ("length", length(PIECE_BYTES - 4)),
        ("path", path(&[".pad", "1"])),
    ]);
    let files = [file(&["a"], 4), padding, file(&["b"], 4)];
    let padded = [b"1234", &vec![0; PIECE_BYTES - 4][..], b"5678"].concat();
    let tree = dict(&[("a", leaf(4)), ("b", leaf(4))]);
    let fields = [
        ("files", list(&files)),
        ("file tree", tree),
        ("meta version", int(2)),
    ];
    let scene = Scene::new(&torrent(info(&fields, &padded)));
    let scene = scene.with("d/a", b"1234").with("d/b", b"5678");
    scene.assert_accepted("version 2 (BEP 52) are not verified");
}

#[test]
fn versions_that_contradict_each_other_are_refused() {
    let [a, c] = files();
    let (a, c, long) = (&a, &c, 2 * PIECE_BYTES);
    for (files, tree, reason) in [
        (
            vec![a.clone(), c.clone()],
            dict(&[("a", leaf(long))]),
            "no further file instead of \"b/c\" of 4 bytes",
        ),
        (
            vec![a.clone(), c.clone()],
            dict(&[
                ("a", leaf(long)),
                ("b", dict(&[("c", leaf(4))])),
                ("z", leaf(1)),
            ]),
            "\"z\" of 1 bytes instead of no further file",
        ),
        (
            vec![a.clone(), c.clone()],
            dict(&[("a", leaf(long)), ("b", dict(&[("c", leaf(5))]))]),
            "\"b/c\" of 5 bytes instead of \"b/c\" of 4 bytes",
        ),
        (
            vec![a.clone(), c.clone()],
            dict(&[("a", leaf(long)), ("b", dict(&[("x", leaf(4))]))]),
            "\"b/x\" of 4 bytes instead of \"b/c\" of 4 bytes",
        ),
        (
            vec![c.clone(), a.clone()],
            tree(),
            "\"a\" of 32768 bytes instead of \"b/c\" of 4 bytes",
        ),
        (vec![a.clone(), c.clone()], int(1), "info.file tree"),
        (
            vec![a.clone(), c.clone()],
            dict(&[("a", int(1))]),
            "is an integer instead of a dictionary",
        ),
        (
            vec![a.clone(), c.clone()],
            dict(&[("a", leaf(long)), ("a", leaf(long))]),
            "is repeated",
        ),
        (
            vec![a.clone(), c.clone()],
            dict(&[(
                "a",
                dict(&[("", dict(&[("length", int(1))])), ("b", leaf(1))]),
            )]),
            "has the file \"a\" with files below it",
        ),
        (
            vec![file(&["a"], 4), file(&["b"], long)],
            dict(&[("a", leaf(4)), ("b", leaf(long))]),
            "in which \"b\" does not start with a piece, but at byte 4",
        ),
    ] {
        assert_refused(&hybrid(&files, tree), reason);
    }
    let tree = dict(&[("e", leaf(content().len()))]);
    let single = hybrid_of(&[("length", length(content().len())), ("file tree", tree)]);
    assert_refused(
        &single,
        "\"e\" of 32772 bytes instead of \"d\" of 32772 bytes",
    );
}

#[test]
fn a_torrent_of_version_2_only_is_shown_with_its_files() {
    let fields = |tree| {
        dict(&[
            ("file tree", tree),
            ("meta version", int(2)),
            ("name", text("d")),
            ("piece length", length(PIECE_BYTES)),
        ])
    };
    let shown = assert_refused(&torrent(fields(tree())), "is of version 2 only");
    assert_eq!(paths(&shown), ["d/a", "d/b/c"]);
    assert_eq!(shown["total_bytes"], content().len());
    let single = dict(&[("d", leaf(4))]);
    let shown = assert_refused(&torrent(fields(single)), "is of version 2 only");
    assert_eq!(
        (&shown["multi_file"], paths(&shown)),
        (&false.into(), vec!["d"])
    );
}

#[test]
fn repeated_keys_that_are_read_are_refused() {
    let single = |more: &[(&str, Vec<u8>)]| torrent(info(more, b"1234"));
    let length = || ("length", int(4));
    let twice = |key, value: Vec<u8>| [(key, value.clone()), (key, value), length()];
    assert_refused(&single(&[length(), length()]), "info.length (byte ");
    for (key, value) in [
        ("piece length", int(16_384)),
        ("pieces", text([0; 20])),
        ("private", int(1)),
    ] {
        let reason = format!("info.{key} (byte ");
        assert_refused(&single(&twice(key, value)), &reason);
    }
    let repeated_name = Scene::new(&single(&twice("name", text("d"))));
    let said = stderr(&repeated_name.run_verify(3, &[]));
    assert!(
        said.contains("info.name (byte ") && said.contains("is repeated"),
        "{said}"
    );
    assert!(repeated_name.show()["name_refusal"].is_string());
    for key in ["length", "path", "attr", "path.utf-8"] {
        let value = match key {
            "length" => int(4),
            "attr" => text("x"),
            _ => path(&["a"]),
        };
        let all = [("length", int(4)), ("path", path(&["a"]))];
        let rest = all.into_iter().filter(|(other, _)| *other != key);
        let twice = [(key, value.clone()), (key, value)];
        let entry = dict(&twice.into_iter().chain(rest).collect::<Vec<_>>());
        let reason = format!("info.files[0].{key} (byte ");
        assert_refused(&multi(&[entry], b"1234"), &reason);
    }
    let valid = info(&[length()], b"1234");
    let repeated_info = dict(&[("info", valid.clone()), ("info", valid)]);
    assert_refused(&repeated_info, "info (byte ");
}

#[test]
fn leading_zeros_in_info_are_refused() {
    for number in [&b"i04e"[..], b"i-0e"] {
        let fields = [("length", int(4)), ("x", number.to_vec())];
        assert_refused(
            &torrent(info(&fields, b"1234")),
            "contains a number with leading zeros",
        );
    }
    let fields = [("length", int(4)), ("x", b"01:a".to_vec())];
    assert_refused(
        &torrent(info(&fields, b"1234")),
        "contains a number with leading zeros",
    );
}

#[test]
fn paths_that_lead_out_of_the_directory_are_shown_but_refused() {
    for components in [
        &["..", "x"][..],
        &["."],
        &["/etc/passwd"],
        &["a/b"],
        &[""],
        &["nul\0"],
    ] {
        let shown = assert_refused(
            &multi(&[file(components, 4)], b"1234"),
            "is not a valid file name",
        );
        assert_eq!(paths(&shown), [format!("d/{}", components.join("/"))]);
    }
    let link = dict(&[("attr", text("l")), ("path", path(&["..", "x"]))]);
    assert_refused(
        &multi(&[link, file(&["a"], 4)], b"1234"),
        "is not a valid file name",
    );
    let utf8 = dict(&[
        ("length", int(4)),
        ("path", path(&["a"])),
        ("path.utf-8", path(&["..", "a"])),
    ]);
    assert_refused(&multi(&[utf8], b"1234"), "info.files[0].path.utf-8[0]");
    let padding = file(&["..", "_____padding_file_0"], 4);
    assert_refused(&multi(&[padding], b"1234"), "is not a valid file name");
}

#[test]
fn content_of_0_bytes_makes_no_torrent() {
    let directory = support::temp_dir();
    let out = directory.path().join("x.torrent");
    put(&directory.path().join("d/empty"), b"");
    put(&directory.path().join("d/sub/empty"), b"");
    for content in ["d", "d/empty"] {
        let content = directory.path().join(content);
        let output = expect(4, &[Path::new("create"), &content, Path::new("-o"), &out]);
        assert!(
            stderr(&output).contains("has 0 bytes"),
            "{}",
            stderr(&output)
        );
        assert!(!out.exists());
    }
}

#[test]
fn files_that_clients_take_for_padding_make_no_torrent() {
    let directory = support::temp_dir();
    let out = directory.path().join("x.torrent");
    put(&directory.path().join("d/_____padding_file_0_"), b"1234");
    let content = directory.path().join("d");
    let output = expect(4, &[Path::new("create"), &content, Path::new("-o"), &out]);
    assert!(
        stderr(&output).contains("_____padding_file_0_: clients take"),
        "{}",
        stderr(&output)
    );
    assert!(!out.exists());
}
