//! What makes two failures the same one: the type, the reason, and the text of the error without what changes from case to
//! case.
//!
//! The first line counts that is not blank. Numbers, times, durations, sizes, hexadecimal digits, UUIDs, random words, quoted
//! texts, addresses, and the varying parts of paths all become `#`. Words that are quoted by backticks stay: they name code.
//! A number of up to three digits right behind `status`, `code`, `errno`, `signal` or `HTTP` stays too: 404 is no 500.

use sha2::{Digest, Sha256};

/// Hexadecimal digits of a fingerprint.
pub const FINGERPRINT_LEN: usize = 12;

/// Characters of an error that are looked at.
const LINE_MAX: usize = 2000;
/// Characters that an address is looked for in.
const ADDRESS_MAX: usize = 320;
/// Characters of what is left that count.
const COUNTED_MAX: usize = 300;
/// Stands for all that varies.
const ANY: char = '#';
/// Folders whose children are named after a person or by chance.
const FOLDERS: [&str; 4] = ["/tmp/", "/home/", "/Users/", "/var/folders/"];
/// Behind a number: what it is a number of.
const UNITS: &[&str] = &[
    "ns",
    "us",
    "µs",
    "ms",
    "s",
    "sec",
    "secs",
    "second",
    "seconds",
    "m",
    "min",
    "mins",
    "minute",
    "minutes",
    "h",
    "hour",
    "hours",
    "d",
    "day",
    "days",
    "b",
    "byte",
    "bytes",
    "kb",
    "mb",
    "gb",
    "tb",
    "kib",
    "mib",
    "gib",
    "tib",
    "k",
    "z",
    "st",
    "nd",
    "rd",
    "th",
    "millis",
    "milliseconds",
    "times",
    "attempts",
    "attempt",
    "retries",
    "retry",
];
/// Before a number that tells what happened, not to whom.
const TELLING: [&str; 5] = ["status", "code", "errno", "signal", "http"];

/// A short name for failures that are alike: 12 hexadecimal digits, the same in all versions. Two failures of one type for one
/// reason have the same if their errors differ only in what changes from case to case; see [`alike`].
#[must_use]
pub fn fingerprint(task_type: &str, reason: &str, error: &str) -> String {
    let mut digest = Sha256::new();
    for part in [task_type, reason, &alike(error)] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest.finalize().iter().take(FINGERPRINT_LEN / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// The first line of an error with `#` for what changes from case to case; at most 300 characters.
#[must_use]
pub fn alike(error: &str) -> String {
    let line = error.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().take(LINE_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = without_varying_words(&without_quotes(&without_folders(&line)));
    joined(&words).chars().take(COUNTED_MAX).collect()
}

/// Children of folders that are named by chance.
fn without_folders(line: &str) -> String {
    FOLDERS.into_iter().fold(line.to_owned(), |line, folder| {
        let (mut out, mut rest) = (String::with_capacity(line.len()), line.as_str());
        while let Some(at) = rest.find(folder) {
            let (head, child) = rest.split_at(at + folder.len());
            let end = child.find(|c: char| c.is_whitespace() || "/:;,)'\"`".contains(c)).unwrap_or(child.len());
            out.push_str(head);
            out.extend((end > 0).then_some(ANY));
            rest = &child[end..];
        }
        out + rest
    })
}

/// Quoted texts. A mark within a word is an apostrophe.
fn without_quotes(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let (mut out, mut i) = (String::new(), 0);
    // Marks that do not come again.
    let mut gone = Vec::new();
    while i < chars.len() {
        let close = match chars[i] {
            c @ ('"' | '\'') => Some(c),
            '“' => Some('”'),
            '‘' => Some('’'),
            _ => None,
        };
        let inside = i > 0 && chars[i - 1].is_alphanumeric();
        let close = close.filter(|close| !inside && !gone.contains(close));
        let end = close.and_then(|close| closing(&chars, i + 1, close));
        if end.is_none() {
            gone.extend(close);
        }
        match end {
            Some(end) => {
                out.push(ANY);
                i = end + 1;
            }
            None => {
                out.push(chars[i]);
                i += 1;
            }
        }
    }
    out
}

fn closing(chars: &[char], from: usize, close: char) -> Option<usize> {
    let mut i = from;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 1,
            c if c == close && !chars.get(i + 1).is_some_and(|next| next.is_alphanumeric()) => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// Words that vary, one by one; punctuation stays.
fn without_varying_words(line: &str) -> String {
    let chars: Vec<char> = line.chars().collect();
    let (mut out, mut i, mut last_word) = (String::new(), 0, String::new());
    while i < chars.len() {
        let starts = i == 0 || !chars[i - 1].is_alphanumeric();
        if starts && let Some(end) = address(&chars, i) {
            out.push(ANY);
            last_word.clear();
            i = end;
            continue;
        }
        let sign = "+-".contains(chars[i]) && (i == 0 || !(chars[i - 1].is_alphanumeric() || chars[i - 1] == ANY));
        if sign && chars.get(i + 1).is_some_and(char::is_ascii_digit) {
            i += 1;
            continue;
        }
        if !chars[i].is_alphanumeric() {
            out.push(chars[i]);
            i += 1;
            continue;
        }
        let end = (i..chars.len()).find(|at| !chars[*at].is_alphanumeric()).unwrap_or(chars.len());
        let word: String = chars[i..end].iter().collect();
        let tells =
            TELLING.contains(&last_word.as_str()) && word.len() <= 3 && word.bytes().all(|b| b.is_ascii_digit());
        if tells {
            out.push_str(&word);
        } else if varies(&word) {
            out.push(ANY);
        } else {
            push_without_digits(&mut out, &word);
        }
        last_word = word.to_lowercase();
        i = end;
    }
    out
}

/// The end of an address that begins here: a UUID, an e-mail address, an IPv6 address.
fn address(chars: &[char], from: usize) -> Option<usize> {
    let rest = &chars[from..chars.len().min(from + ADDRESS_MAX)];
    let length = |fits: fn(&char) -> bool| rest.iter().take_while(|c| fits(c)).count();
    let ends = |at: usize| !rest.get(at).is_some_and(|c| c.is_alphanumeric());
    let hex = length(|c| c.is_ascii_hexdigit() || *c == '-');
    let is_uuid = |text: &[char]| {
        text.len() == 36 && text.iter().enumerate().all(|(i, c)| (*c == '-') == [8, 13, 18, 23].contains(&i))
    };
    if hex >= 36 && is_uuid(&rest[..36]) && ends(36) {
        return Some(from + 36);
    }
    let colons = length(|c| c.is_ascii_hexdigit() || ":.".contains(*c));
    let text = &rest[..colons];
    let count = text.iter().filter(|c| **c == ':').count();
    if (2..=45).contains(&colons) && count >= 2 && text.iter().any(char::is_ascii_digit) && ends(colons) {
        // A full stop or a colon behind it is the sentence's.
        let own = text.iter().rposition(char::is_ascii_hexdigit).map_or(colons, |last| last + 1);
        return Some(from + own);
    }
    let name = length(|c| c.is_ascii_alphanumeric() || "._%+-".contains(*c));
    if name > 0 && rest.get(name) == Some(&'@') {
        let host = rest[name + 1..].iter().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(**c)).count();
        let host = rest[name + 1..name + 1 + host].iter().rposition(|c| c.is_ascii_alphanumeric()).map_or(0, |n| n + 1);
        if host > 0 {
            return Some(from + name + 1 + host);
        }
    }
    None
}

/// Whether a word says nothing but which case it is.
fn varies(word: &str) -> bool {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let all_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits == word.len() || word.strip_prefix("0x").is_some_and(all_hex) {
        return true;
    }
    if all_hex(word) && (word.len() >= 16 || word.len() >= 6 && digits > 0) {
        return true;
    }
    digits > 0 && (measures(word) || is_random(word))
}

/// `10ms`, `1h30m`, `3rd`, `02T03`: numbers with what they are of.
fn measures(word: &str) -> bool {
    let mut rest = word;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = rest[number..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| number + at);
        let name = rest[number..unit].to_lowercase();
        let between = name == "t" && unit < rest.len();
        if number == 0 || !(name.is_empty() || between || UNITS.contains(&name.as_str())) {
            return false;
        }
        rest = &rest[unit..];
    }
    true
}

/// Whether letters and digits, large and small, follow on each other as in no word.
fn is_random(word: &str) -> bool {
    let kind = |c: char| match c {
        c if c.is_ascii_digit() => 0,
        c if c.is_uppercase() => 1,
        _ => 2,
    };
    let kinds: Vec<u8> = word.chars().map(kind).collect();
    kinds.len() >= 10 && kinds.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 5
}

fn push_without_digits(out: &mut String, word: &str) {
    let mut in_number = false;
    for c in word.chars() {
        if !c.is_ascii_digit() {
            out.push(c);
        } else if !in_number {
            out.push(ANY);
        }
        in_number = c.is_ascii_digit();
    }
}

/// Blanks and marks that join varying things go into one `#`, with the unit behind it: `#.# s` is `#`.
fn joined(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let mut short = String::new();
        for c in word.chars() {
            short.push(c);
            while let Some(head) = joinable(&short) {
                short.truncate(head);
            }
        }
        let (core, tail) = short.split_at(short.trim_end_matches(|c: char| ".,:;)]".contains(c)).len());
        let before = out.last_mut().filter(|before| before.ends_with(ANY));
        match before {
            // A list of them is one; and so is one with its unit.
            Some(before) if core == "#" || UNITS.contains(&core.to_lowercase().as_str()) => before.push_str(tail),
            _ => out.push(short),
        }
        if let Some(last) = out.last_mut()
            && last.ends_with("#,")
        {
            last.pop();
        }
    }
    out.join(" ").trim_end_matches(|c: char| ".,:;! ".contains(c)).to_owned()
}

/// Where a text is cut off that ends with two varying things, or with two and a mark between them.
fn joinable(text: &str) -> Option<usize> {
    let before = text.strip_suffix(ANY)?;
    if before.ends_with(ANY) {
        return Some(before.len());
    }
    let head = before.strip_suffix(|c: char| ".,:-_/+".contains(c))?;
    head.ends_with(ANY).then_some(head.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors that tell of one bug have one form, and it is this.
    #[track_caller]
    fn one(form: &str, errors: &[&str]) {
        for error in errors {
            assert_eq!(alike(error), form, "{error}");
        }
    }

    #[test]
    fn the_same_bug_in_another_case_is_the_same() {
        one("order # not found", &["order 7 not found", "order 123456 not found", "order -3 not found."]);
        one(
            "user # has no address",
            &[
                "user 550e8400-e29b-41d4-a716-446655440000 has no address",
                "user 4f3a9c21 has no address",
                "user 0x7f3a has no address",
                "user 'ann' has no address",
                "user \"ann \\\"the boss\\\" lee\" has no address",
                "user “ann” has no address",
                "user ann@example.com has no address",
                "user V1StGXR8Z5jdHi6BmyT has no address",
                "user 01ARZ3NDEKTSV4RRFFQ69G5FAV has no address",
            ],
        );
        one(
            "timed out after #",
            &[
                "timed out after 5s",
                "timed out after 1h30m",
                "timed out after 1.5 seconds",
                "timed out after 250 ms",
                "timed out after 10.004321ms",
                "timed out after 2 days",
                "timed out after 12.5MiB",
                "timed out after 3 bytes",
            ],
        );
        one("no connection to #", &["no connection to 10.0.0.5:6379", "no connection to 192.168.1.77"]);
        one(
            "no route to #",
            &["no route to 2001:db8::1", "no route to fe80::1ff:fe23:4567:890a", "no route to 10.1.2.3"],
        );
        one("expired at #", &["expired at 2026-01-02T03:04:05Z", "expired at 2026-11-22 23:59:59.123 +0200"]);
        one("bad ids [#]", &["bad ids [1, 2, 3]", "bad ids [17]", "bad ids [4f3a9c21, 99]"]);
        one(
            "cannot open /tmp/#/out.json",
            &["cannot open /tmp/.tmpXyZabc/out.json", "cannot open /tmp/job-17/out.json"],
        );
        one(
            "no such file: /home/#/src/main.rs:#",
            &["no such file: /home/ann/src/main.rs:14:5", "no such file: /home/bob/src/main.rs:2"],
        );
        one(
            "GET https://api.example.com/v#/orders/#/lines",
            &[
                "GET https://api.example.com/v1/orders/17/lines",
                "GET https://api.example.com/v2/orders/4f3a9c21ee/lines",
            ],
        );
        one("the # failed", &["the 3rd attempt failed", "the 11th attempt failed"]);
        one("it failed", &["it failed", "\n\n  it failed  \nCaused by: disk 7", "it failed!\n\tat main"]);
    }

    #[test]
    fn another_bug_is_another() {
        let all = [
            "order 7 not found",
            "user 7 not found",
            "timed out after 5s",
            "connection reset",
            "HTTP 404",
            "HTTP 500",
            "status code: 503",
            "exit code 1",
            "exit code 137",
            "missing field `name`",
            "missing field `age`",
            "cannot open /etc/a.conf",
            "cannot open /etc/b.conf",
            "don't know",
            "doesn't know",
            "panicked: index out of bounds",
            "std::fs failed",
            "",
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                assert_ne!(alike(a), alike(b), "{a} / {b}");
            }
        }
    }

    #[test]
    fn words_and_code_stay() {
        one("can't find `std::fs::read_#` for the user's file", &["can't find `std::fs::read_2` for the user's file"]);
        one("utf# is no sha#", &["utf8 is no sha256"]);
        one("a facade of cafe and decade", &["a facade of cafe and decade"]);
        one("PermissionDenied: base#Decoder", &["PermissionDenied: base64Decoder"]);
    }

    #[test]
    fn type_and_reason_count_and_the_name_is_stable() {
        let name = fingerprint("deploy", "retries", "order 7 not found");
        assert_eq!(name, fingerprint("deploy", "retries", "order 8 not found\nwith more"));
        assert_eq!((name.len(), name.bytes().all(|b| b.is_ascii_hexdigit())), (FINGERPRINT_LEN, true));
        assert_ne!(name, fingerprint("deploy2", "retries", "order 7 not found"));
        assert_ne!(name, fingerprint("deploy", "fatal", "order 7 not found"));
        // People write it down: it must be the same for ever.
        assert_eq!(name, "291ca4bef802");
    }

    /// The bound on what is looked at would hide it, so each part goes by itself. Looking from every place to the end would
    /// take many minutes here.
    #[test]
    fn a_long_text_is_gone_through_once() {
        type Part = fn(&str) -> String;
        let quick: [Part; 3] = [without_folders, without_quotes, joined];
        let slow: [Part; 1] = [without_varying_words];
        let parts = quick.map(|part| (part, 1 << 19)).into_iter().chain(slow.map(|part| (part, 1 << 16)));
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for piece in
                ["'a ", "\"a ", "“a ‘b ", "\\' ", "a.", "a@", "a-", "f:", "0-", "/tmp/a ", "/home//tmp/", "1, "]
            {
                for (part, length) in parts.clone() {
                    let long = piece.repeat(length / piece.len());
                    assert!(part(&long).len() <= 2 * long.len(), "{piece}");
                }
            }
            let _ = done.send(alike(&"'a ".repeat(1 << 20)).chars().count());
        });
        assert_eq!(is_done.recv_timeout(std::time::Duration::from_secs(60)), Ok(COUNTED_MAX));
    }

    #[test]
    fn whatever_comes_it_is_bounded_and_ends() {
        let long = "x".repeat(100_000);
        assert_eq!(alike(&long).len(), COUNTED_MAX);
        let mut odd: Vec<String> = [
            "'",
            "\"",
            "\\",
            "#",
            "# #",
            "'''",
            "@",
            "a@",
            "@a",
            "::",
            "-",
            "--5",
            "/tmp/",
            "/tmp//",
            "µs 5µs",
            "٣ ٣",
            "１２",
            "\u{0}\u{7}",
            "é'é'é",
            "1T",
            "T1",
            "0x",
            "/home/é/ü",
        ]
        .map(Into::into)
        .to_vec();
        odd.push("'".repeat(5000));
        odd.push("1,".repeat(5000));
        odd.push("/tmp/a".repeat(500));
        for error in odd {
            let once = alike(&error);
            assert!(once.chars().count() <= COUNTED_MAX, "{error}");
        }
    }
}
