//! Files as people make them.

use std::io::{self, Read};

use proptest::prelude::*;
use rstest::rstest;

use super::source::LONGEST;
use super::*;
use crate::domain::rules::NumberRules;

const HEADER: &str = "tenant,type,mobile\n";
const ROW: &str = "pb,login,9876543210\n";

fn opened<R: Read>(input: R, format: Format) -> Rows<R> {
    Rows::read(input, format, "rows").expect("a file of rows")
}

fn all<R: Read>(mut rows: Rows<R>) -> Vec<Row> {
    let mut found = Vec::new();
    while let Some(row) = rows.next_row().expect("memory can be read") {
        found.push(row);
    }
    found
}

fn csv(text: &str) -> Vec<Row> {
    all(opened(text.as_bytes(), Format::Csv))
}

fn ndjson(text: &str) -> Vec<Row> {
    all(opened(text.as_bytes(), Format::Ndjson))
}

/// Each row as `line number content`, the request as it would be sent.
fn told(rows: &[Row]) -> Vec<String> {
    let tell = |row: &Row| {
        let content = match &row.content {
            Ok(request) => {
                let sent = request.submission();
                let texts = [
                    sent.tenant.as_deref(),
                    sent.kind.as_deref(),
                    sent.mobile.as_deref(),
                    sent.user_type.as_deref(),
                    sent.country_code.as_deref(),
                    sent.locale.as_ref().map(|locale| locale.as_str()),
                    request.event_id(),
                ];
                texts.map(|text| text.unwrap_or("-")).join(" ")
            }
            Err(bad) => bad.to_string(),
        };
        format!("{} {} {content}", row.line, row.number)
    };
    rows.iter().map(tell).collect()
}

fn fault(bytes: &[u8]) -> String {
    let opened = Rows::read(bytes, Format::Csv, "rows.csv");
    opened.err().expect("no rows").to_string()
}

const ASKED: &str = "pb login 9876543210 CITIZEN - - -";

#[rstest]
#[case::plain("tenant,type,mobile\npb,login,9876543210\n")]
#[case::without_a_last_line_end("tenant,type,mobile\npb,login,9876543210")]
#[case::windows("tenant,type,mobile\r\npb,login,9876543210\r\n")]
#[case::old_mac("tenant,type,mobile\rpb,login,9876543210\r")]
#[case::byte_order_mark("\u{feff}tenant,type,mobile\npb,login,9876543210\n")]
#[case::mark_and_quotes(
    "\u{feff}\"tenant\",\"type\",\"mobile\"\n\"pb\",\"login\",\"9876543210\"\n"
)]
#[case::semicolons("tenant;type;mobile\npb;login;9876543210\n")]
#[case::tabs("tenant\ttype\tmobile\npb\tlogin\t9876543210\n")]
#[case::bars("tenant|type|mobile\npb|login|9876543210\n")]
#[case::other_names("Type;MOBILE_NUMBER;tenantId\nlogin;9876543210;pb\n")]
#[case::blanks(" tenant , type , mobile \n pb , login , 9876543210 \n")]
#[case::a_column_without_a_name("tenant,type,mobile,\npb,login,9876543210,\n")]
fn a_table_is_read_however_it_was_written(#[case] text: &str) {
    assert_eq!(told(&csv(text)), [format!("2 1 {ASKED}")]);
}

#[test]
fn a_table_may_say_everything() {
    let text = "locale,eventId,Country Code,user-type,mobileNumber,type,TENANT\n\
                hi_IN,order-17,+91,EMPLOYEE,98765 43210,PasswordReset,pb.amritsar\n";
    let asked = "2 1 pb.amritsar PasswordReset 98765 43210 EMPLOYEE +91 hi_IN order-17";
    assert_eq!(told(&csv(text)), [asked]);
}

#[test]
fn lines_are_those_of_an_editor_and_blank_ones_are_no_rows() {
    let text = format!("\n{HEADER}\n{ROW}  \n,,\n\"\",,\r\n\"pb\n\",login,9876543210\n{ROW}");
    let expected = [
        format!("4 1 {ASKED}"),
        format!("8 2 {ASKED}"),
        format!("10 3 {ASKED}"),
    ];
    assert_eq!(told(&csv(&text)), expected);
}

#[rstest]
#[case::separator_in_quotes("\"p,b\",login,9876543210", "the tenant is no tenant id")]
#[case::short("pb,login", "2 cells where the first line has 3")]
#[case::long("pb,login,9876543210,,", "5 cells where the first line has 3")]
#[case::no_tenant(",login,9876543210", "no tenant")]
#[case::no_type("pb,,9876543210", "no type")]
#[case::no_number("pb,login,", "no mobile")]
#[case::bad_type(
    "pb,signup,9876543210",
    "the type is none of login register passwordreset"
)]
#[case::rewritten(
    "pb,login,9.87654E+09",
    "the mobile number does not fit the rules for numbers: a spreadsheet may have rewritten it"
)]
fn a_bad_row_says_why_and_the_next_one_is_read(#[case] row: &str, #[case] reason: &str) {
    let told = told(&csv(&format!("{HEADER}{row}\n{ROW}")));
    assert_eq!(told, [format!("2 1 {reason}"), format!("3 2 {ASKED}")]);
}

#[rstest]
#[case("countryCode", "91x", "the country code is no dialling prefix as +91")]
#[case(
    "locale",
    "hindi",
    "the locale is no language with or without a country as hi_IN"
)]
#[case(
    "eventId",
    "é",
    "the event id is not 1 to 128 printable ASCII characters"
)]
#[case("", "x", "something in a column that has no name")]
fn what_need_not_be_there_must_be_right(
    #[case] name: &str,
    #[case] text: &str,
    #[case] reason: &str,
) {
    let table = format!("tenant,type,mobile,{name}\npb,login,9876543210,{text}\n");
    assert_eq!(told(&csv(&table)), [format!("2 1 {reason}")]);
}

#[test]
fn numbers_are_judged_by_the_rules_that_are_known() {
    let text = "tenant,type,mobile,countryCode\npb,login,123,\npb,login,9876543210,+1\npb,login,9876543210,91\n";
    let rules = NumberRules::without_mdms("^[6-9][0-9]{9}$", &["91".to_owned()]);
    let rows = all(opened(text.as_bytes(), Format::Csv).judged_by(rules));
    let bad: Vec<_> = rows.into_iter().map(|row| row.content.err()).collect();
    assert_eq!(bad, [Some(BadRow::Mobile), Some(BadRow::Country), None]);
    let shapes = csv(text).into_iter().all(|row| row.content.is_ok());
    assert!(shapes, "egov-mdms may take them");
}

#[test]
fn an_open_quote_costs_one_row() {
    let rest = ROW.repeat(3);
    for rest in [rest.as_str(), &ROW.repeat(10_000)] {
        let rows = csv(&format!("{HEADER}pb,login,\"9876543210\n{rest}"));
        assert_eq!(told(&rows[..1]), ["2 1 a quote is not closed"]);
        assert_eq!(told(&rows[1..2]), [format!("3 2 {ASKED}")]);
        assert_eq!(rows.len(), 1 + rest.len() / ROW.len());
    }
}

#[test]
fn a_row_beyond_the_bound_is_bad_and_costs_no_memory() {
    for length in [LONGEST, LONGEST + 1, 10 * LONGEST] {
        let long = "x".repeat(length);
        let table = csv(&format!("{HEADER}{long}\n{ROW}"));
        assert_eq!(told(&table[..1]), ["2 1 longer than 65536 bytes"]);
        assert_eq!(told(&table[1..]), [format!("3 2 {ASKED}")]);
        let flat = r#"{"tenant":"pb","type":"login","mobile":"9876543210"}"#;
        let lines = ndjson(&format!("{long}\n{flat}"));
        assert_eq!(told(&lines[..1]), ["1 1 longer than 65536 bytes"]);
        assert_eq!(told(&lines[1..]), [format!("2 2 {ASKED}")]);
    }
}

#[test]
fn another_encoding_is_bad_where_it_shows() {
    let text = [
        HEADER.as_bytes(),
        b"p\xe9,login,9876543210\n",
        ROW.as_bytes(),
    ]
    .concat();
    let told = told(&all(opened(text.as_slice(), Format::Csv)));
    let expected = [
        "2 1 not UTF-8: save the file as UTF-8",
        &format!("3 2 {ASKED}"),
    ];
    assert_eq!(told, expected);
}

#[rstest]
#[case::empty(b"", "its first line must name its columns")]
#[case::no_header(b"pb,login,9876543210\n", "its first line must name its columns")]
#[case::unknown(
    b"tenant,type,mobile,name,9876543210,a@b.c\n",
    "it has columns that are not known: name, ***, ***; known are tenant, type, mobile"
)]
#[case::twice(b"tenant,tenantId,type,mobile\n", "it has the column tenant twice")]
#[case::missing(b"tenant,locale\n", "it has no column type, mobile:")]
#[case::utf16_little(b"\xff\xfet\0e\0", "it is UTF-16: save it as UTF-8")]
#[case::utf16_big(b"\xfe\xff\0t\0e", "it is UTF-16")]
#[case::utf16_unmarked(b"t\0e\0n\0", "it is UTF-16")]
fn a_file_that_is_no_table_says_what_to_do(#[case] bytes: &[u8], #[case] said: &str) {
    let fault = fault(bytes);
    assert!(fault.starts_with(&format!("rows.csv: {said}")), "{fault}");
    assert!(!fault.contains("98765"));
}

#[test]
fn a_name_says_how_a_file_is_written() {
    for (name, format) in [
        ("a.csv", Some(Format::Csv)),
        ("a.CSV", Some(Format::Csv)),
        ("a.ndjson", Some(Format::Ndjson)),
        ("a.b.jsonl", Some(Format::Ndjson)),
        ("a.xlsx", None),
        ("csv", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format, "{name}");
    }
    let said = |name: &str| match Rows::open(Path::new(name)) {
        Ok(_) => panic!("{name} is there"),
        Err(error) => error.to_string(),
    };
    assert!(said("/nowhere/a.xlsx").contains("must end in .csv"));
    assert!(said("/nowhere/a.csv").contains("cannot be read"));
}

#[rstest]
#[case::flat(
    r#"{"tenantId":"pb","TYPE":"login","mobile_number":9876543210,"locale":null}"#,
    ASKED
)]
#[case::body(
    r#"{"eventId":"e-1","RequestInfo":{"msgId":"1|hi_IN"},"otp":{"tenantId":"pb","mobileNumber":"9876543210"}}"#,
    "pb - 9876543210 - - hi_IN e-1"
)]
#[case::id_with_the_number(
    r#"{"tenant":"pb","type":"login","mobile":"9876543210","eventId":"x9876543210"}"#,
    "pb login 9876543210 CITIZEN - - sha256-6aadc13c523ebbed3ec85d5b49694569"
)]
#[case::unknown(
    r#"{"tenant":"pb","name":"x"}"#,
    "a name that is not known: known are tenant type mobile userType countryCode locale eventId"
)]
#[case::twice(r#"{"tenant":"pb","tenantId":"pb"}"#, "tenant twice")]
#[case::cut(r#"{"tenant":"pb""#, "not JSON at column 14")]
#[case::table("pb,login,9876543210", "not JSON at column 1")]
#[case::array("[]", "no object with texts in it")]
#[case::nested(r#"{"tenant":[]}"#, "no object with texts in it")]
#[case::nothing("{}", "no type")]
#[case::body_without("{\"otp\":{}}", "no tenant")]
fn a_line_is_a_request_or_says_why_not(#[case] line: &str, #[case] told_as: &str) {
    let text = format!("\u{feff}\r\n{line}\r\n \n{line}");
    let told = told(&ndjson(&text));
    assert_eq!(told, [format!("2 1 {told_as}"), format!("4 2 {told_as}")]);
}

#[test]
fn a_person_is_a_tenant_a_number_and_a_type() {
    let text = format!(
        "{HEADER}{ROW}{ROW}pb,LOGIN,98765-43210\npb,register,9876543210\npg,login,9876543210\npb,login,9876543211\n"
    );
    let mut duplicates = Duplicates::new();
    let seen: Vec<bool> = csv(&text)
        .iter()
        .map(|row| duplicates.seen_before(row.content.as_ref().expect("a request")))
        .collect();
    assert_eq!(seen, [false, true, true, false, false, false]);
}

/// Gives a few bytes at a time, as pipes do.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(into.len()).min(self.0.len());
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// The number, and anything in which it could be told.
fn quotes_the_row(rows: &[Row]) -> bool {
    rows.iter().any(|row| {
        let said = row.content.as_ref().err().map(BadRow::to_string);
        format!("{row:?}{}", said.unwrap_or_default()).contains("98765")
    })
}

fn table_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(ROW.as_bytes().to_vec()),
        1 => Just(b"\"".to_vec()),
        1 => Just(b",".to_vec()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\r\n".to_vec()),
        1 => Just(b"pb,login,\"98765\n43210\"\r\n".to_vec()),
        1 => Just(b"{\"tenant\":\"pb\",\"type\":\"login\",\"mobile\":9876543210}\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
        1 => (0..3 * LONGEST).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_in_are_rows_in_the_report(body in table_like(), at_once in 1_usize..100_000) {
        let table = [HEADER.as_bytes(), &body].concat();
        for (bytes, format) in [(&table, Format::Csv), (&body, Format::Ndjson)] {
            let rows = match Rows::read(Trickle(bytes, at_once), format, "rows") {
                Ok(rows) => all(rows),
                Err(_) => continue,
            };
            prop_assert!(!quotes_the_row(&rows));
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("rows.report.csv");
            let mut report = Report::create(&path).expect("a report");
            for row in &rows {
                let fate = row.content.as_ref().err().map_or(Fate::Sent, |bad| Fate::Bad(*bad));
                report.write(row, fate).expect("the next row");
            }
            prop_assert_eq!(report.finish().expect("written").1, rows.len() as u64);
            let lines = std::fs::read_to_string(&path).expect("a report");
            prop_assert_eq!(lines.lines().count(), 1 + rows.len());
            // However it comes, it is the same file.
            prop_assert_eq!(&all(opened(bytes.as_slice(), format)), &rows);
            let numbered = rows.iter().zip(1..).all(|(row, number)| row.number == number);
            prop_assert!(numbered);
            prop_assert!(rows.is_sorted_by_key(|row| row.line));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in [Format::Csv, Format::Ndjson] {
            if let Ok(rows) = Rows::read(bytes.as_slice(), format, "rows") {
                all(rows);
            }
        }
    }
}
