//! Makes hostile text safe to show on one line of a terminal.

use std::borrow::Cow;

/// Replaces control characters, and characters that reorder or hide text, by escapes such as `\n`, `\x1b` and
/// `\u{202e}`. Text without any is borrowed.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match char {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            c if is_dangerous(c) && (c as u32) < 0x100 => safe.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_dangerous(c) => safe.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// The same, cut to `max` characters with an ellipsis.
pub fn short(text: &str, max: usize) -> String {
    // Escaping at most lengthens, so more than `max` characters of input are never needed.
    let start: String = text.chars().take(max + 1).collect();
    let safe = line(&start);
    if safe.chars().count() <= max && text.chars().count() <= max {
        return safe.into_owned();
    }
    let mut cut: String = safe.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Control characters; and Unicode's bidirectional controls, zero-width characters and line separators.
fn is_dangerous(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(char, '\u{61c}' | '\u{180e}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn harmless_text_is_borrowed() {
        assert!(matches!(line("nginx -g 'daemon off;' 容器"), Cow::Borrowed(_)));
    }

    #[test]
    fn nothing_reaches_the_terminal_raw() {
        assert_eq!(line("a\x1b[2J\nb\u{202e}c\u{7f}\u{9b}"), "a\\x1b[2J\\nb\\u{202e}c\\x7f\\x9b");
    }

    #[test]
    fn long_text_is_cut_after_escaping() {
        assert_eq!(short("abcdef", 6), "abcdef");
        assert_eq!(short("abcdefg", 6), "abcde…");
        assert_eq!(short("\x1b\x1b\x1b", 6), "\\x1b\\…");
        assert!(short(&"x".repeat(100_000), 80).chars().count() == 80);
    }
}
