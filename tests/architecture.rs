//! The rooms of the house (the modules right below `src/`) and the doors between them.
//!
//! [`DOORS`] is both a permission and a statement: a use that it does not list fails, and so does an entry that
//! nothing uses any more. Tests may use what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::slice::Iter;
use std::str::Chars;

/// For each room what it may use: a whole room (`store`) or a part of one (`store::claims`).
///
/// Data flows `docker -> checkpoint -> store -> archive -> restore -> interposer`.
const DOORS: &[(&str, &[&str])] = &[
    // Foundations: they use nothing.
    ("failure", &[]),
    ("process", &[]),
    ("settings", &[]),
    ("criu", &[]),
    // Along the data flow.
    ("docker", &[]),
    ("checkpoint", &["criu", "docker", "network", "process", "services", "store"]),
    // Digests and compression are the archive's.
    ("store", &["archive"]),
    (
        "archive",
        &[
            // doubtful: a circle, as the store uses the archive; export and import are what closes it.
            "store",
        ],
    ),
    // A peer's bytes are read without root: no door leads out of here.
    ("transport", &[]),
    (
        "restore",
        &[
            "archive",
            // doubtful: against the flow; the gate that the interposer knocks at also hears of complete dumps.
            "checkpoint::dump",
            "docker",
            "failure",
            // The words that both sides of the gate speak are the interposer's, for it must stay small.
            "interposer",
            "network",
            "pager",
            "store",
            "world",
        ],
    ),
    // Runs in place of runc for every container of the host: no more than it needs to restore one.
    ("interposer", &["criu::log", "network::temporary", "process", "store::claims", "store::id", "store::layout"]),
    // Across.
    ("network", &[]),
    ("services", &["process"]),
    ("packages", &[]),
    // A process of its own: it outlives the helper.
    ("pager", &["criu::pagemap", "process", "transport::client"]),
    ("saga", &["failure"]),
    // Rules that are checked in every order of events: they touch nothing.
    ("handover", &[]),
    (
        "world",
        &[
            "archive::blocks",
            "checkpoint::dump",
            "checkpoint::memory",
            "docker",
            "failure",
            "handover",
            "metrics",
            "network",
            "pager",
            "saga",
            "services",
            "settings",
            "store",
            "transport",
        ],
    ),
    (
        "operations",
        &[
            "archive",
            "checkpoint",
            "criu",
            "docker",
            "failure",
            "network",
            "packages",
            "process",
            "report",
            "restore",
            "saga",
            "services",
            "store",
            "transport",
            "world",
        ],
    ),
    ("shipping", &["archive", "failure", "operations", "saga", "store", "transport", "world"]),
    (
        "migration",
        &[
            "archive",
            "checkpoint",
            "criu::rpc",
            "docker",
            "failure",
            "handover",
            "network",
            "operations",
            "pager",
            "process",
            "restore",
            "saga",
            "services",
            "store",
            "transport",
            "world",
        ],
    ),
    ("overview", &["failure", "metrics", "migration", "operations", "report", "saga", "services", "world"]),
    ("pairing", &["failure", "migration", "transport", "world"]),
    // Ends: nothing uses them but the programs, and the command line what it says to the helper.
    (
        "helper",
        &[
            "criu::canary",
            "failure",
            "metrics",
            "migration",
            "operations",
            "overview",
            "pager",
            "pairing",
            "process::wait_for_end",
            "restore::addresses",
            "restore::carry_out",
            "restore::gate",
            "saga",
            "settings",
            "shipping",
            "transport",
            "world",
        ],
    ),
    ("cli", &["failure", "helper::protocol", "report"]),
    // Plain data in, text out.
    ("metrics", &[]),
    ("report", &[]),
    // Programs.
    ("bin/transship", &["cli"]),
    ("bin/transshipd", &["helper"]),
    ("bin/transship-runc", &["interposer"]),
];

#[test]
fn rooms_use_only_what_they_may_and_all_of_that() {
    let uses = uses_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let faults = compare(&uses, DOORS);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Modules side by side in one room that use each other in a circle: none of them can be read before the others.
/// Known ones, which are to become fewer.
const CIRCLES: &[(&str, &[&str])] =
    &[("restore", &["addresses", "gate", "prepare", "settle", "thaw"]), ("store", &["error", "layout", "manifest"])];

#[test]
fn modules_of_a_room_do_not_use_each_other_in_a_circle() {
    let sources = code_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let known: Circles = CIRCLES.iter().map(|(room, modules)| (room.to_string(), names(modules))).collect();
    assert_eq!(circles(&neighbours(&sources)), known);
}

#[test]
fn a_circle_is_found_however_long_it_is() {
    let file = |path: &str, source: &str| (module_of(Path::new(path)), without_tests(&tokens(source)).tokens);
    let sources = BTreeMap::from([
        file("a/mod.rs", "mod one; mod two; mod three; mod four; pub struct Thing;"),
        file("a/one.rs", "use super::two::f; use crate::a::Thing;"),
        file("a/two/mod.rs", "mod deep;"),
        file("a/two/deep.rs", "use super::super::three; use super::f;"),
        file("a/three.rs", "fn f() { crate::a::one::f() }"),
        file("a/four.rs", "use super::one; use super::Thing;"),
        file("b.rs", "use crate::a::one;"),
    ]);
    assert_eq!(circles(&neighbours(&sources)), [("a".to_owned(), names(&["one", "three", "two"]))]);
}

#[test]
fn a_door_that_is_missing_or_unused_is_told() {
    let uses = Uses::from([
        ("a".into(), BTreeSet::from([used("b::inner::f", "a.rs"), used("c", "a.rs")])),
        ("b".into(), BTreeSet::new()),
        ("c".into(), BTreeSet::new()),
        ("d".into(), BTreeSet::new()),
    ]);
    assert_eq!(compare(&uses, &[("a", &["b::inner", "c"]), ("b", &[]), ("c", &[]), ("d", &[])]), [""; 0]);
    let faults = compare(&uses, &[("a", &["b::inn", "b::inner::f::g"]), ("b", &[]), ("c", &["a"]), ("e", &[])]);
    let expected = [
        "a may not use b::inner::f (a.rs)",
        "a may not use c (a.rs)",
        "a no longer uses b::inn",
        "a no longer uses b::inner::f::g",
        "c no longer uses a",
        "d is not in the table",
        "e is no longer there",
    ];
    assert_eq!(faults, expected);
}

#[test]
fn uses_are_found_wherever_they_are_written() {
    let source = r##"
        //! [`crate::comment`] /* crate::comment */
        use crate::{one, two::{self, Inner as Other, deep::*}, own::Thing};
        pub(crate) fn text<'a>(_: &'a str) -> char { let _ = "crate::text \" crate::text"; '"' }
        /* crate::comment /* crate::nested */ crate::comment */
        const RAW: &str = r#"crate::text " crate::text"#;
        #[cfg(test)]
        use crate::{testing, other};
        #[cfg(test)]
        #[path = "beside.rs"]
        mod tests;
        #[cfg(test)]
        fn helper(_: [u8; 4]) { if true { crate::testing::run() } }
        fn call() -> crate::three::Type<crate::four::Type> { crate::five::f::<u8>(); super::six::f(); self::own(); }
        mod inline { use super::super::seven; }
        #[cfg(test)]
        mod more { fn f() { { crate::testing::f() } } }
        fn last() { crate::eight() }
    "##;
    let source = without_tests(&tokens(source));
    assert_eq!(source.test_modules, [TestModule { name: "tests".into(), path: Some("beside.rs".into()) }]);
    let found = paths_from_root(&source.tokens, "crate", 1);
    let expected = [
        "one",
        "two",
        "two::Inner",
        "two::deep::*",
        "own::Thing",
        "three::Type",
        "four::Type",
        "five::f",
        "six::f",
        "eight",
    ];
    assert_eq!(found, expected);
    let nested = paths_from_root(&source.tokens, "crate", 2);
    assert!(nested.contains(&"seven".into()) && !nested.contains(&"six::f".into()), "{nested:?}");
}

/// What each room uses of others.
type Uses = BTreeMap<String, BTreeSet<Use>>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    /// As in `store::claims::Claim`.
    path: String,
    file: String,
}

fn used(path: &str, file: &str) -> Use {
    Use { path: path.into(), file: file.into() }
}

/// What is wrong, in the table or the code.
fn compare(uses: &Uses, doors: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    let table: BTreeMap<_, _> = doors.iter().copied().collect();
    for (room, uses) in uses {
        let Some(doors) = table.get(room.as_str()) else {
            faults.push(format!("{room} is not in the table"));
            continue;
        };
        let forbidden = uses.iter().filter(|used| !doors.iter().any(|door| leads_to(door, &used.path)));
        faults.extend(forbidden.map(|used| format!("{room} may not use {} ({})", used.path, used.file)));
        let unused = doors.iter().filter(|door| !uses.iter().any(|used| leads_to(door, &used.path)));
        faults.extend(unused.map(|door| format!("{room} no longer uses {door}")));
    }
    let gone = table.keys().filter(|room| !uses.contains_key(**room));
    faults.extend(gone.map(|room| format!("{room} is no longer there")));
    faults
}

fn leads_to(door: &str, path: &str) -> bool {
    path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn uses_of(root: &Path) -> Uses {
    let mut sources = BTreeMap::new();
    read_sources(root, &mut sources);
    let tests: Vec<PathBuf> = sources.iter().flat_map(|(file, source)| test_files(file, source)).collect();
    let mut uses = Uses::new();
    for (file, source) in sources.iter().filter(|(file, _)| !tests.iter().any(|test| is_of_test(file, test))) {
        let relative = file.strip_prefix(root).unwrap();
        let module = module_of(relative);
        let (room, depth, library) = match module.as_slice() {
            [] => continue,
            [bin, program] if bin == "bin" => (format!("bin/{program}"), 0, "transship"),
            [room, ..] => (room.clone(), module.len(), "crate"),
        };
        let own = |path: &String| leads_to(&room, path);
        let paths = paths_from_root(&source.tokens, library, depth);
        let paths = paths.iter().filter(|path| !own(path)).map(|path| used(path, &relative.display().to_string()));
        uses.entry(room.clone()).or_default().extend(paths);
    }
    uses
}

/// The tokens of each module, without those of its tests.
fn code_of(root: &Path) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut sources = BTreeMap::new();
    read_sources(root, &mut sources);
    let tests: Vec<PathBuf> = sources.iter().flat_map(|(file, source)| test_files(file, source)).collect();
    let code = sources.into_iter().filter(|(file, _)| !tests.iter().any(|test| is_of_test(file, test)));
    code.map(|(file, source)| (module_of(file.strip_prefix(root).unwrap()), source.tokens)).collect()
}

/// Below each module, which of those side by side uses which others.
type Neighbours = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn neighbours(sources: &BTreeMap<Vec<String>, Vec<String>>) -> Neighbours {
    let mut neighbours = Neighbours::new();
    for (module, tokens) in sources {
        // A path that begins with so many `super` begins that far above.
        let above = (1..module.len()).map(|depth| (&module[..module.len() - depth], depth));
        let relative = above.flat_map(|(above, depth)| {
            let paths = paths_from_root(tokens, "", depth).into_iter();
            paths.map(move |path| [&above.join("::"), "::", &path].concat())
        });
        for path in relative.chain(paths_from_root(tokens, "crate", module.len())) {
            let path: Vec<String> = path.split("::").map(str::to_owned).collect();
            let common = path.iter().zip(module).take_while(|(one, other)| one == other).count();
            if common == 0 || common == path.len() || common == module.len() || !sources.contains_key(&path[..=common])
            {
                continue;
            }
            let beside = neighbours.entry(module[..common].join("::")).or_default();
            beside.entry(module[common].clone()).or_default().insert(path[common].clone());
        }
    }
    neighbours
}

/// Below which modules there are circles, and all that are in any.
type Circles = Vec<(String, BTreeSet<String>)>;

fn circles(neighbours: &Neighbours) -> Circles {
    let in_circles = |(above, uses): (&String, &BTreeMap<String, BTreeSet<String>>)| {
        let circle: BTreeSet<String> = uses.keys().filter(|one| reached(uses, one).contains(*one)).cloned().collect();
        (!circle.is_empty()).then(|| (above.clone(), circle))
    };
    neighbours.iter().filter_map(in_circles).collect()
}

/// All that a module uses, directly or through others.
fn reached(uses: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let (mut reached, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(next) = left.pop() {
        let new = uses.get(next).into_iter().flatten().filter(|one| reached.insert((*one).clone()));
        left.extend(new.map(String::as_str).collect::<Vec<_>>());
    }
    reached
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn read_sources(directory: &Path, sources: &mut BTreeMap<PathBuf, Source>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = without_tests(&tokens(&fs::read_to_string(&path).unwrap()));
            sources.insert(path, source);
        }
    }
}

/// The module in a file below `src`: `store/claims/tests.rs` is `[store, claims, tests]`, `lib.rs` is `[]`.
fn module_of(relative: &Path) -> Vec<String> {
    let stem = relative.with_extension("");
    let names = stem.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| name != "mod" && name != "lib").collect()
}

/// Files that are modules of tests only, each without its extension.
fn test_files(file: &Path, source: &Source) -> Vec<PathBuf> {
    let beside = file.parent().unwrap();
    let below = match file.file_stem().unwrap().to_str().unwrap() {
        "mod" | "lib" => beside.to_owned(),
        name => beside.join(name),
    };
    let place = |module: &TestModule| match &module.path {
        Some(path) => beside.join(path).with_extension(""),
        None => below.join(&module.name),
    };
    source.test_modules.iter().map(place).collect()
}

fn is_of_test(file: &Path, test: &Path) -> bool {
    file.starts_with(test) || file.with_extension("") == *test
}

/// A file's code without that of its tests.
struct Source {
    tokens: Vec<String>,
    test_modules: Vec<TestModule>,
}

/// `#[cfg(test)] mod name;`
#[derive(Debug, PartialEq, Eq)]
struct TestModule {
    name: String,
    path: Option<String>,
}

fn without_tests(tokens: &[String]) -> Source {
    let mut source = Source { tokens: Vec::new(), test_modules: Vec::new() };
    let mut rest = tokens;
    while let Some(token) = rest.first() {
        if starts_with(rest, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let item;
            (item, rest) = rest.split_at(item_length(rest));
            source.test_modules.extend(test_module(item));
        } else {
            source.tokens.push(token.clone());
            rest = &rest[1..];
        }
    }
    source
}

fn starts_with(tokens: &[String], wanted: &[&str]) -> bool {
    tokens.len() >= wanted.len() && tokens.iter().zip(wanted).all(|(token, wanted)| token == wanted)
}

/// How many tokens an item has, with its attributes.
fn item_length(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 && (token == "}" || token == ";") {
            return index + 1;
        }
    }
    tokens.len()
}

fn test_module(item: &[String]) -> Option<TestModule> {
    let [.., keyword, name, end] = item else { return None };
    let path = item.windows(3).find(|window| starts_with(window, &["path", "="]));
    let path = path.map(|window| window[2].trim_matches('"').to_owned());
    (keyword == "mod" && end == ";").then(|| TestModule { name: name.clone(), path })
}

/// All paths that begin at the root of the library, in a module `depth` below it. A glob is a part named `*`.
fn paths_from_root(tokens: &[String], library: &str, depth: usize) -> Vec<String> {
    let mut paths = Vec::new();
    for begin in 0..tokens.len() {
        if begin > 0 && tokens[begin - 1] == "::" {
            continue;
        }
        let ascents = tokens[begin..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
        let root = if ascents > 0 && ascents == depth {
            begin + 2 * ascents
        } else if starts_with(&tokens[begin..], &[library, "::"]) {
            begin + 2
        } else {
            continue;
        };
        collect_tree(&mut tokens[root..].iter().peekable(), &[], &mut paths);
    }
    paths
}

/// Reads a path or, in a `use`, a tree of them.
fn collect_tree(tokens: &mut Peekable<Iter<'_, String>>, above: &[&str], paths: &mut Vec<String>) {
    let mut path = above.to_vec();
    while let Some(token) = tokens.next_if(|token| is_part_of_path(token) || *token == "{") {
        if token == "{" {
            while tokens.next_if(|token| *token == "}").is_none() && tokens.peek().is_some() {
                collect_tree(tokens, &path, paths);
                // `as name`, and the comma.
                while tokens.next_if(|token| *token != "}" && *token != ",").is_some() {}
                tokens.next_if(|token| *token == ",");
            }
            return;
        }
        if token != "self" {
            path.push(token);
        }
        if tokens.next_if(|token| *token == "::").is_none() {
            break;
        }
    }
    paths.push(path.join("::"));
}

fn is_part_of_path(token: &str) -> bool {
    token == "*" || token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, numbers, texts (with one quotation mark before and after), `::`, and single signs; no comments.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source.chars();
    while let Some(first) = rest.clone().next() {
        let begin = rest.as_str();
        if begin.starts_with("//") {
            rest = begin[begin.find('\n').unwrap_or(begin.len())..].chars();
        } else if begin.starts_with("/*") {
            skip_block_comment(&mut rest);
        } else if let Some(length) = raw_text_length(begin) {
            tokens.push("\"\"".into());
            rest = begin[length..].chars();
        } else if first == '"' {
            rest.next();
            tokens.push(text(&mut rest));
        } else if let Some(length) = character_length(begin) {
            rest = begin[length..].chars();
        } else if first.is_alphanumeric() || first == '_' {
            let end = begin.find(|sign: char| !sign.is_alphanumeric() && sign != '_').unwrap_or(begin.len());
            tokens.push(begin[..end].into());
            rest = begin[end..].chars();
        } else {
            let length = if begin.starts_with("::") { 2 } else { first.len_utf8() };
            tokens.extend((!first.is_whitespace()).then(|| begin[..length].into()));
            rest = begin[length..].chars();
        }
    }
    tokens
}

fn skip_block_comment(rest: &mut Chars<'_>) {
    let mut depth = 0;
    loop {
        if rest.as_str().starts_with("/*") {
            depth += 1;
            rest.next();
        } else if rest.as_str().starts_with("*/") {
            depth -= 1;
            rest.next();
        }
        if rest.next().is_none() || depth == 0 {
            return;
        }
    }
}

/// `r"..."`, `r#"..."#` and so on, of bytes or not.
fn raw_text_length(source: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"]
        .into_iter()
        .find(|prefix| source.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"')))?;
    let after = &source[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let begin = prefix.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(begin + source[begin..].find(&end)? + end.len())
}

fn text(rest: &mut Chars<'_>) -> String {
    let mut text = String::from("\"");
    while let Some(sign) = rest.next() {
        text.push(sign);
        match sign {
            '"' => break,
            '\\' => text.extend(rest.next()),
            _ => {}
        }
    }
    text
}

/// `'x'` or `'\n'`, but no lifetime.
fn character_length(source: &str) -> Option<usize> {
    let inner = source.strip_prefix('\'')?;
    let sign = inner.chars().next()?;
    if sign == '\\' {
        return Some(inner[2..].find('\'')? + 4);
    }
    inner[sign.len_utf8()..].starts_with('\'').then(|| sign.len_utf8() + 2)
}
