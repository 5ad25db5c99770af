//! Stable codes of diagnostics. Names that Falco has mean the same as there. `docs/rule-errors.md` has an example of
//! each, which a test loads.

use super::Severity;

/// What a code means, wherever it appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The code.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub meaning: &'static str,
    /// What to do about it, in one sentence.
    pub remedy: &'static str,
}

/// The page that explains all codes, relative to the root of the project.
pub const PAGE: &str = "docs/rule-errors.md";

impl Info {
    /// Where in the project's documents the code is explained: [`PAGE`] and its anchor.
    pub fn anchor(code: &str) -> String {
        format!("{PAGE}#{}", code.to_ascii_lowercase())
    }

    /// What there is to know of a code.
    pub fn of(code: &str) -> Option<&'static Self> {
        ALL.iter().find(|info| info.code == code)
    }
}

macro_rules! codes {
    ($($name:ident $code:literal $severity:ident $meaning:literal $remedy:literal;)*) => {
        $(#[doc = $meaning] pub const $name: &str = $code;)*

        /// All codes, errors first.
        pub static ALL: &[Info] = &[$(Info {
            code: $code, severity: Severity::$severity, meaning: $meaning, remedy: $remedy,
        },)*];
    };
}

codes! {
    FILE_READ "LOAD_ERR_FILE_READ" Error
        "The file cannot be read."
        "Look at its path and permissions; rule files are UTF-8 text.";
    YAML_PARSE "LOAD_ERR_YAML_PARSE" Error
        "The file is not YAML, or would become too large with its aliases put in."
        "Mend the indentation or quotes at the place shown; nothing of the file is loaded.";
    YAML_VALIDATE "LOAD_ERR_YAML_VALIDATE" Error
        "The YAML is not shaped like rules: a key is missing, doubled, or has a value of the wrong kind."
        "Give the item the keys that its kind needs.";
    CONDITION "LOAD_ERR_COMPILE_CONDITION" Error
        "A condition is wrong: its grammar, a field, an operator, a value or an event type."
        "Mend the part that is underlined.";
    OUTPUT "LOAD_ERR_COMPILE_OUTPUT" Error
        "An output names a field that does not exist or cannot be shown."
        "Mend the field behind the `%`.";
    VALIDATE "LOAD_ERR_VALIDATE" Error
        "An item makes no sense together with the others: a macro or a target that does not exist, a loop, a version."
        "Define what is missing before it is used.";
    EXTENSION "LOAD_ERR_EXTENSION" Error
        "A test cannot be read, as `rules test` says; where rules are loaded, it is `LOAD_WARNING_EXTENSION`."
        "Give it the keys and values that it needs.";
    UNKNOWN_SOURCE "LOAD_UNKNOWN_SOURCE" Warning
        "The rule is for a source of events that this engine does not have, and is skipped."
        "Leave it to the engine that has the source.";
    UNSAFE_NA_CHECK "LOAD_UNSAFE_NA_CHECK" Warning
        "A field of `ka.*` or `jevt.*` is compared with the text `<NA>`, which it never has: such a field is null."
        "Write `not FIELD exists`.";
    NO_EVTTYPE "LOAD_NO_EVTTYPE" Warning
        "The rule is tried on every kind of event, which costs time."
        "Begin its condition with `evt.type in (…)`, or set `warn_evttypes: false`.";
    UNKNOWN_FILTER "LOAD_UNKNOWN_FILTER" Warning
        "The rule was skipped for a field or event type that does not exist, as it asked for."
        "Nothing, if the rule is for a newer or other engine.";
    UNUSED_MACRO "LOAD_UNUSED_MACRO" Warning
        "A macro is not used."
        "Remove it, or use it in a rule.";
    UNUSED_LIST "LOAD_UNUSED_LIST" Warning
        "A list is not used."
        "Remove it, or use it in a condition.";
    UNKNOWN_ITEM "LOAD_UNKNOWN_ITEM" Warning
        "An item is of no known kind and is skipped."
        "Begin it with `rule`, `macro`, `list`, `test` or a required version.";
    DEPRECATED_ITEM "LOAD_DEPRECATED_ITEM" Warning
        "This is an old way to say something, or a field that is kept for old rules only."
        "Write it in the new way that is shown.";
    WARNING_EXTENSION "LOAD_WARNING_EXTENSION" Warning
        "An item that only this engine knows, such as `test`, has a key that does nothing or is not shaped as it should be."
        "Remove the key, or mend the item; the rules are loaded all the same.";
    APPEND_NO_VALUES "LOAD_APPEND_NO_VALUES" Warning
        "An exception is appended without values, which changes nothing."
        "Give it `values`.";
    EXCEPTION_NAME_NOT_UNIQUE "LOAD_EXCEPTION_NAME_NOT_UNIQUE" Warning
        "Two exceptions of a rule have one name, so that values can be appended to the first only."
        "Rename one of them.";
    INVALID_MACRO_NAME "LOAD_INVALID_MACRO_NAME" Warning
        "A macro's name is no identifier, so that no condition can name it."
        "Use letters, digits and `_`, a letter first.";
    INVALID_LIST_NAME "LOAD_INVALID_LIST_NAME" Warning
        "A list's name cannot be written in a condition."
        "Leave out blanks, quotes, parentheses, `=` and `,`.";
    COMPILE_CONDITION "LOAD_COMPILE_CONDITION" Warning
        "A condition probably does not mean what it says."
        "Write what is proposed, or put the value in quotes if it is meant so.";
    UNKNOWN_KEY "LOAD_UNKNOWN_KEY" Warning
        "Items of this kind do not have this key; it does nothing."
        "Correct its name or remove it.";
    NO_SOURCE "LOAD_NO_SOURCE" Warning
        "Nothing supplies this field or event type yet: the field is always null, a comparison with it is never true."
        "Write the rule without it, or leave it for a later version.";
    COMPILE_OUTPUT "LOAD_COMPILE_OUTPUT" Warning
        "An output probably does not mean what it says."
        "Put a blank behind the field's name, or correct the name.";
    NEVER_MATCHES "LOAD_NEVER_MATCHES" Warning
        "The rule can never match: parts of its condition contradict each other."
        "Join the parts with `or`, or disable the rule with `enabled: false`.";
    ALWAYS_MATCHES "LOAD_ALWAYS_MATCHES" Warning
        "The rule matches every event."
        "Begin its condition with `evt.type in (…)` and say what is out of the ordinary.";
    SHADOWED_RULE "LOAD_SHADOWED_RULE" Warning
        "An earlier rule matches whenever this one does; where only the first match speaks, this one never would."
        "Move this rule in front of the earlier one, or narrow the earlier one.";
    NUMBER_WITH_TEXT "LOAD_NUMBER_WITH_TEXT" Warning
        "A text is compared with a number: byte by byte, or although the text is a name."
        "Use the field that holds the number.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_say_what_to_do() {
        for (i, info) in ALL.iter().enumerate() {
            assert!(ALL[..i].iter().all(|other| other.code != info.code), "{}", info.code);
            assert_eq!(info.code.starts_with("LOAD_ERR_"), info.severity == Severity::Error, "{}", info.code);
            assert!(info.meaning.ends_with('.') && info.remedy.ends_with('.'), "{}", info.code);
        }
        assert_eq!(Info::of(CONDITION).map(|info| info.severity), Some(Severity::Error));
        assert_eq!(Info::anchor(CONDITION), "docs/rule-errors.md#load_err_compile_condition");
    }
}
