//! Text in columns of a terminal. Whatever a client has sent, a character takes the columns that are counted here.

/// The columns of a character; none of those that a terminal obeys, joins to others, or that terminals do not agree about.
fn columns(c: char) -> Option<usize> {
    match c {
        ' '..='~' | '\u{a1}'..='\u{ac}' | '\u{ae}'..='\u{2ff}' | '\u{370}'..='\u{482}' | '\u{48a}'..='\u{52f}' => {
            Some(1)
        }
        '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' => Some(1),
        '\u{3041}'..='\u{3096}' | '\u{30a0}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => {
            Some(2)
        }
        '\u{ac00}'..='\u{d7a3}' | '\u{ff01}'..='\u{ff60}' => Some(2),
        _ => None,
    }
}

/// What has no certain width is shown as an escape.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match columns(c) {
            Some(_) => shown.push(c),
            None => shown.extend(c.escape_default()),
        }
    }
    shown
}

/// How many columns a text takes that is [`shown`].
pub fn width(text: &str) -> usize {
    text.chars().filter_map(columns).sum()
}

/// As much of a text as the columns hold; the last of them says if there is more.
pub fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.into();
    }
    let mut left = most.saturating_sub(1);
    let fits = |c: &char| {
        let taken = columns(*c).unwrap_or(0);
        let fits = taken <= left;
        left = left.saturating_sub(taken);
        fits
    };
    let cut: String = text.chars().take_while(fits).collect();
    if most == 0 { String::new() } else { cut + ">" }
}

/// A cell of this width, its text to the left or to the right.
pub fn cell(text: &str, wanted: usize, right: bool) -> String {
    let text = cut(text, wanted);
    let space = " ".repeat(wanted.saturating_sub(width(&text)));
    if right { space + &text } else { text + &space }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_a_terminal_or_breaks_a_line() {
        assert_eq!(
            shown("GET /\x1b[2J\t\n\u{9b}\u{202e}\u{300}\u{200d}é東"),
            r"GET /\u{1b}[2J\t\n\u{9b}\u{202e}\u{300}\u{200d}é東"
        );
        assert_eq!(shown("\u{1f600}"), r"\u{1f600}");
    }

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!([0, 1, 2, 3, 4].map(|most| cut("東京", most)), ["", ">", ">", "東>", "東京"]);
        assert_eq!(cell("東京都", 5, false), "東京>");
        assert_eq!((cell("ab", 4, true), cell("ab", 4, false)), ("  ab".into(), "ab  ".into()));
    }
}
