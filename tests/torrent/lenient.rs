//! Torrents that deviate from the standard where it does no harm: they are shown and verified, and
//! what was ignored is a warning.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::bytes::{
    Scene, dict, file, info, int, length, list, multi, path, paths, sha1_hex, text, torrent,
};
use crate::program::{expect, stderr, stdout};

/// `info` of one file called "d" with the content "1234", with `more` fields.
fn single_info(more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    info(&[more, &[("length", int(4))]].concat(), b"1234")
}

/// A torrent with fields beside `info`.
fn single_with(more: &[(&str, Vec<u8>)]) -> Vec<u8> {
    dict(&[more, &[("info", single_info(&[]))]].concat())
}

fn scene(torrent: &[u8]) -> Scene {
    Scene::new(torrent).with("d", b"1234")
}

#[test]
fn bytes_after_the_torrent_are_ignored() {
    for rest in [&b"\n"[..], b"  \r\n", b"\0\0", b"<html>", b"d4:infodee"] {
        let bytes = [single_with(&[]), rest.to_vec()].concat();
        let shown = scene(&bytes).assert_accepted("bytes after the end are ignored");
        assert_eq!(shown["info_hash"], sha1_hex(&single_info(&[])));
    }
}

#[test]
fn names_in_utf8_are_preferred() {
    let entry = dict(&[
        ("length", int(4)),
        ("path", path(&["wrong"])),
        ("path.utf-8", path(&["sub", "ü"])),
    ]);
    let fields = [
        ("files", list(&[entry])),
        ("name", text(b"\xc4")),
        ("name.utf-8", text("Ä")),
    ];
    let scene = Scene::new(&torrent(info(&fields, b"1234"))).with("Ä/sub/ü", b"1234");
    let shown = scene.show();
    assert_eq!(
        (&shown["name"], paths(&shown)),
        (&"Ä".into(), vec!["Ä/sub/ü"])
    );
    assert_eq!(scene.verify(0)["ok"], true);
}

#[test]
fn names_in_utf8_that_are_unusable_are_ignored() {
    for unusable in [int(1), text("x"), list(&[]), list(&[text(b"\xff")])] {
        let entry = dict(&[
            ("length", int(4)),
            ("path", path(&["a"])),
            ("path.utf-8", unusable),
        ]);
        let scene = Scene::new(&multi(&[entry], b"1234")).with("d/a", b"1234");
        scene.assert_accepted("info.files[0].path.utf-8");
    }
    for unusable in [int(1), text(b"\xff")] {
        let bytes = torrent(single_info(&[("name.utf-8", unusable)]));
        scene(&bytes).assert_accepted("info.name.utf-8");
    }
}

#[test]
fn names_that_are_not_utf8_are_used_as_bytes() {
    let entry = dict(&[
        ("length", int(4)),
        ("path", list(&[text(b"sub\xff"), text(b"\xe4")])),
    ]);
    let fields = [("files", list(&[entry])), ("name", text(b"d\xfe"))];
    let scene = Scene::new(&torrent(info(&fields, b"1234")));
    let name = OsStr::from_bytes(b"d\xfe/sub\xff/\xe4");
    let scene = scene.with(name, b"1234");
    let shown = scene.assert_accepted("is not UTF-8");
    assert_eq!(paths(&shown), ["d\u{fffd}/sub\u{fffd}/\u{fffd}"]);
    let text = stdout(&expect(0, &[Path::new("show"), &scene.torrent]));
    assert!(text.contains("d\u{fffd}/sub\u{fffd}/\u{fffd}"), "{text}");
}

#[test]
fn symbolic_links_need_no_length_and_count_as_0_bytes() {
    let link = |more: &[(&str, Vec<u8>)]| {
        let fields = [("attr", text("l")), ("path", path(&["link"]))];
        dict(&[&fields[..], more].concat())
    };
    let target = ("symlink path", path(&["a"]));
    for (fields, warning) in [
        (vec![], ""),
        (vec![target.clone()], ""),
        (vec![("length", int(0)), target.clone()], ""),
        (vec![("length", int(5))], "info.files[0].length"),
        (vec![("length", int(-5))], "info.files[0].length"),
        (vec![("length", text("x")), target], "info.files[0].length"),
    ] {
        let files = [link(&fields), file(&["a"], 4)];
        let scene = Scene::new(&multi(&files, b"1234")).with("d/a", b"1234");
        let shown = scene.assert_accepted(warning);
        assert_eq!(
            (&shown["files"][0]["kind"], &shown["files"][0]["bytes"]),
            (&"symlink".into(), &0.into())
        );
        assert_eq!(paths(&scene.verify(0)), ["d/a"]);
        let all = stdout(&scene.run_verify(0, &["-v"]));
        assert!(
            all.contains("symbolic links not verified: 1\nsymlink     d/link\n"),
            "{all}"
        );
    }
}

#[test]
fn padding_needs_no_path() {
    let padding = |more: &[(&str, Vec<u8>)]| {
        let fields = [("attr", text("p")), ("length", int(3))];
        dict(&[&fields[..], more].concat())
    };
    for (fields, warning) in [
        (vec![], ""),
        (vec![("path", path(&[".pad", "3"]))], ""),
        (vec![("path", path(&["..", "x"]))], "info.files[1].path"),
        (vec![("path", int(3))], "info.files[1].path"),
    ] {
        let files = [file(&["a"], 4), padding(&fields), file(&["b"], 1)];
        let scene = Scene::new(&multi(&files, b"1234\0\0\x005"));
        let scene = scene.with("d/a", b"1234").with("d/b", b"5");
        let shown = scene.assert_accepted(warning);
        assert_eq!(shown["files"][1]["kind"], "padding");
    }
}

#[test]
fn bitcomet_padding_files_are_zeros_without_a_file() {
    let files = [
        file(&["a"], 4),
        file(&["sub", "_____padding_file_0_do not edit____"], 3),
        file(&["b"], 1),
    ];
    let scene = Scene::new(&multi(&files, b"1234\0\0\x005"));
    let scene = scene.with("d/a", b"1234").with("d/b", b"5");
    assert_eq!(scene.show()["files"][1]["kind"], "padding");
    assert_eq!(paths(&scene.verify(0)), ["d/a", "d/b"]);
}

#[test]
fn private_may_be_a_string_or_another_number() {
    for (value, private) in [
        (int(-1), true),
        (int(2), true),
        (text("1"), true),
        (text("yes"), true),
        (text("0"), false),
        (text(""), false),
        (list(&[]), false),
    ] {
        let bytes = torrent(single_info(&[("private", value)]));
        let shown = scene(&bytes).assert_accepted("info.private");
        assert_eq!(shown["private"], private, "{shown}");
    }
}

#[test]
fn attributes_of_another_type_are_ignored() {
    for attributes in [int(1), list(&[text("p")]), dict(&[])] {
        let entry = dict(&[
            ("attr", attributes),
            ("length", int(4)),
            ("path", path(&["a"])),
        ]);
        let scene = Scene::new(&multi(&[entry], b"1234")).with("d/a", b"1234");
        let shown = scene.assert_accepted("info.files[0].attr");
        assert_eq!(shown["files"][0]["kind"], "file");
    }
}

#[test]
fn repeated_keys_that_are_not_read_are_ignored() {
    let twice = |key| [(key, int(1)), (key, int(2))];
    let nested = dict(&twice("x"));
    let entry = dict(&[
        ("length", int(4)),
        ("md5sum", text("a")),
        ("md5sum", text("b")),
        ("path", path(&["a"])),
    ]);
    let fields = [&twice("x")[..], &[("files", list(&[entry]))]].concat();
    let info = info(&fields, b"1234");
    let outer = [
        &twice("nodes")[..],
        &[("z", nested), ("info", info.clone())],
    ]
    .concat();
    let scene = Scene::new(&dict(&outer)).with("d/a", b"1234");
    let shown = scene.assert_accepted("repeated dictionary key");
    assert_eq!(shown["info_hash"], sha1_hex(&info));
    assert_eq!(shown["warnings"].as_array().map(Vec::len), Some(4));
}

#[test]
fn of_repeated_comments_and_trackers_the_first_counts() {
    let bytes = single_with(&[
        ("announce", text("http://a/")),
        ("announce", text("http://b/")),
        ("comment", text("first")),
        ("comment", text("second")),
    ]);
    let shown = scene(&bytes).assert_accepted("repeated dictionary key");
    assert_eq!(shown["comment"], "first");
    assert_eq!(shown["trackers"], serde_json::json!([["http://a/"]]));
}

#[test]
fn files_take_precedence_over_length() {
    let fields = [("files", list(&[file(&["a"], 4)])), ("length", int(99))];
    let scene = Scene::new(&torrent(info(&fields, b"1234"))).with("d/a", b"1234");
    let shown = scene.assert_accepted("info.length");
    assert_eq!(
        (&shown["multi_file"], paths(&shown)),
        (&true.into(), vec!["d/a"])
    );
}

#[test]
fn leading_zeros_outside_of_info_are_accepted() {
    for (number, warning) in [
        (&b"i01e"[..], "leading zeros"),
        (b"i-0e", "negative zero"),
        (b"i-00012e", "leading zeros"),
        (b"03:abc", "leading zeros"),
    ] {
        let bytes = single_with(&[("creation date", number.to_vec())]);
        scene(&bytes).assert_accepted(warning);
    }
}

#[test]
fn whitespace_around_trackers_is_removed() {
    let tiers = [
        list(&[text(" http://a/\n"), text("  ")]),
        list(&[text("udp://b:1")]),
    ];
    let bytes = single_with(&[
        ("announce", text("\thttp://c/")),
        ("announce-list", list(&tiers)),
    ]);
    let shown = scene(&bytes).assert_accepted("announce-list");
    assert_eq!(
        shown["trackers"],
        serde_json::json!([["http://a/"], ["udp://b:1"]])
    );
    let bytes = single_with(&[("announce", text("http://c/\r\n"))]);
    let shown = scene(&bytes).assert_accepted("announce");
    assert_eq!(shown["trackers"], serde_json::json!([["http://c/"]]));
}

#[test]
fn informational_fields_of_another_type_cause_warnings() {
    for key in ["announce", "announce-list", "comment", "created by"] {
        scene(&single_with(&[(key, int(1))])).assert_accepted(key);
    }
    scene(&single_with(&[("creation date", text("x"))])).assert_accepted("creation date");
    scene(&torrent(single_info(&[("source", int(1))]))).assert_accepted("info.source");
}

#[test]
fn warnings_are_printed_by_show_and_by_verify_with_v() {
    let scene = scene(&[single_with(&[]), b"\n".to_vec()].concat());
    let expected = "bytes after the end are ignored\n";
    let shown = stdout(&expect(0, &[Path::new("show"), &scene.torrent]));
    assert!(
        shown.contains("warning       torrent (byte ") && shown.contains(expected),
        "{shown}"
    );
    let all = stdout(&scene.run_verify(0, &["-v"]));
    assert!(
        all.contains("warning     torrent (byte ") && all.contains(expected),
        "{all}"
    );
    assert_eq!(stdout(&scene.run_verify(0, &[])).lines().count(), 1);
    assert!(
        scene.verify(0)["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("after the end"))
    );
}

#[test]
fn a_million_deviations_cause_a_hundred_warnings() {
    let many = [&b"l"[..], &b"i00e".repeat(1_000_000), b"e"].concat();
    let shown = scene(&single_with(&[("x", many)])).show();
    assert_eq!(shown["warnings"].as_array().map(Vec::len), Some(101));
    assert_eq!(shown["warnings"][100], "999900 more warnings");
}

/// `info` of the file "a" with 4 bytes, with a name or path that verify refuses.
fn refused_names() -> Vec<(Vec<u8>, &'static str)> {
    let files = || ("files", list(&[file(&["a"], 4)]));
    let name = |name: &str| torrent(info(&[files(), ("name", text(name))], b"1234"));
    let rest = [
        files(),
        ("piece length", length(crate::bytes::PIECE_BYTES)),
        ("pieces", crate::bytes::digests(b"1234")),
    ];
    vec![
        (name("a/b"), "is not a valid file name: \"a/b\""),
        (name("/etc"), "is not a valid file name: \"/etc\""),
        (name(".."), "is not a valid file name: \"..\""),
        (name(""), "is not a valid file name: \"\""),
        (torrent(dict(&rest)), "is missing"),
        (
            torrent(info(&[files(), ("name", int(1))], b"1234")),
            "is an integer instead of a string",
        ),
    ]
}

#[test]
fn content_replaces_a_name_that_verify_refuses() {
    for (bytes, reason) in refused_names() {
        let scene = Scene::new(&bytes).with("other/a", b"1234");
        let shown = scene.show();
        assert!(
            shown["name_refusal"]
                .to_string()
                .contains(&reason.replace('"', "\\\"")),
            "{shown}"
        );
        assert_eq!(shown["refusal"], serde_json::Value::Null);
        let said = stderr(&scene.run_verify(3, &[]));
        assert!(
            said.contains(reason) && said.contains("--content PATH"),
            "{said}"
        );
        let content = scene.directory.path().join("other");
        let args = [
            Path::new("verify"),
            &scene.torrent,
            Path::new("--content"),
            &content,
        ];
        let said = stdout(&expect(0, &args));
        assert!(said.contains("ok, 1 files"), "{said}");
    }
}

#[test]
fn content_may_have_any_name() {
    let scene = scene(&single_with(&[]))
        .with("renamed", b"1234")
        .with("e/a", b"1234");
    let verify = |code, torrent: &Path, content: &str| {
        let content = scene.directory.path().join(content);
        expect(
            code,
            &[
                Path::new("verify"),
                torrent,
                Path::new("--content"),
                &content,
            ],
        )
    };
    verify(0, &scene.torrent, "renamed");
    let said = stderr(&verify(4, &scene.torrent, "e"));
    assert!(
        said.contains("is a directory, but the torrent has one file"),
        "{said}"
    );
    let said = stderr(&verify(4, &scene.torrent, "absent"));
    assert!(said.contains("absent: No such file or directory"), "{said}");

    let many = Scene::new(&multi(&[file(&["a"], 4)], b"1234"));
    verify(0, &many.torrent, "e");
    let said = stderr(&verify(4, &many.torrent, "renamed"));
    assert!(said.contains("is not a directory"), "{said}");
}

#[test]
fn content_does_not_allow_paths_that_lead_out_of_it() {
    for components in [&["..", "secret"][..], &["a/../../secret"], &["/etc/passwd"]] {
        let scene = Scene::new(&multi(&[file(components, 4)], b"1234"));
        let scene = scene.with("d/a", b"1234").with("secret", b"1234");
        let content = scene.directory.path().join("d");
        let args = [
            Path::new("verify"),
            &scene.torrent,
            Path::new("--content"),
            &content,
        ];
        let more = [Path::new("--follow-symlinks")];
        let said = stderr(&expect(3, &[&args[..], &more].concat()));
        assert!(said.contains("is not a valid file name"), "{said}");
    }
}
