//! Results of tests as JUnit XML, which CI servers show.

use std::fmt::Write as _;

use tw_report::escape;

use super::{FileResult, Ran};

/// The document: a suite for each file, a case for each test.
pub fn document(files: &[FileResult]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let total: usize = files.iter().map(FileResult::tests).sum();
    let failed: usize = files.iter().map(FileResult::failed).sum();
    // A string's write cannot fail.
    let _ = writeln!(xml, "<testsuites name=\"tidewatch rules test\" tests=\"{total}\" failures=\"{failed}\">");
    for file in files {
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\">",
            safe(&file.name),
            file.tests(),
            file.failed() - file.broken.len(),
            file.broken.len()
        );
        for ran in &file.ran {
            case(&mut xml, ran);
        }
        for diagnostics in &file.broken {
            let Some(diagnostic) = diagnostics.first() else { continue };
            let name = format!("line {}", diagnostic.line);
            let _ = writeln!(
                xml,
                "    <testcase name=\"{}\" file=\"{}\" line=\"{}\">",
                safe(&name),
                safe(&file.name),
                diagnostic.line
            );
            let told: Vec<String> = diagnostics.iter().map(|diagnostic| safe(&diagnostic.to_string())).collect();
            let (message, told) = (safe(&diagnostic.message), told.join("\n"));
            let _ = writeln!(xml, "      <error message=\"{message}\">{told}</error>\n    </testcase>");
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn case(xml: &mut String, ran: &Ran) {
    let test = &ran.test;
    let rules: Vec<&str> = test.hits.keys().map(String::as_str).collect();
    let _ = write!(
        xml,
        "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.6}\"",
        safe(&rules.join(", ")),
        safe(&test.name),
        safe(&test.file),
        test.line,
        ran.took.as_secs_f64()
    );
    if ran.passed() {
        xml.push_str("/>\n");
        return;
    }
    let told: Vec<String> = ran
        .failures
        .iter()
        .map(|failure| {
            format!("{}:{}: {}", safe(&test.file), test.line_of(failure.event()), safe(&failure.to_string()))
        })
        .collect();
    let first = ran.failures.first().map(|failure| safe(&failure.to_string())).unwrap_or_default();
    let _ = writeln!(xml, ">\n      <failure message=\"{first}\">{}</failure>\n    </testcase>", told.join("\n"));
}

/// Text without what has a meaning in XML or cannot be in it.
fn safe(text: &str) -> String {
    escape::line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_the_document() {
        assert_eq!(safe("a<b>&\"c\"\u{1}\n"), "a&lt;b&gt;&amp;&quot;c&quot;\\x01\\n");
    }
}
