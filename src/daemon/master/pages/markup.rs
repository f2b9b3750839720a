//! HTML of which nobody but the master writes a tag: what comes from outside can only be text.

use std::{fmt::Display, ops::Add};

use ostler_wire::log::printable;

/// The longest text, in characters.
const LONGEST: usize = 400;

/// A piece of a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// A text, whatever it holds. Characters that steer are shown as escapes.
    pub fn text(text: impl Display) -> Markup {
        let shown = printable(&text.to_string());
        let cut = shown.char_indices().nth(LONGEST).map(|(end, _)| end);
        let mut escaped = String::with_capacity(shown.len());
        for c in shown[..cut.unwrap_or(shown.len())].chars() {
            match c {
                '&' => escaped += "&amp;",
                '<' => escaped += "&lt;",
                '>' => escaped += "&gt;",
                '"' => escaped += "&quot;",
                '\'' => escaped += "&#39;",
                c => escaped.push(c),
            }
        }
        Markup(if cut.is_some() { escaped + "…" } else { escaped })
    }

    /// This in an element: `td`, or `td class="n"`.
    pub fn within(self, opening: &'static str) -> Markup {
        let name = opening.split(' ').next().unwrap_or(opening);
        Markup(format!("<{opening}>{self}</{name}>"))
    }

    /// A graph: its lines, each of which stands on the ground, in a space of this size.
    pub fn graph(lines: &[Vec<(f64, f64)>], width: f64, height: f64) -> Markup {
        let line = |points: &Vec<(f64, f64)>| {
            let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else { return String::new() };
            let between: String = points.iter().map(|(x, y)| format!("L{x:.0} {y:.1}")).collect();
            format!("M{first:.0} {height}{between}L{last:.0} {height}")
        };
        let path: String = lines.iter().map(line).collect();
        Markup(format!(
            "<svg viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path d=\"{path}\"></path></svg>"
        ))
    }
}

impl Display for Markup {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Add for Markup {
    type Output = Markup;
    fn add(self, next: Markup) -> Markup {
        Markup(self.0 + &next.0)
    }
}

impl FromIterator<Markup> for Markup {
    fn from_iter<I: IntoIterator<Item = Markup>>(pieces: I) -> Markup {
        pieces.into_iter().fold(Markup::default(), Markup::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text() {
        let text = Markup::text("<script>a&b</script> \"'\u{1b}[2J\u{202e}\0");
        assert_eq!(
            text.within("td class=\"n\"").to_string(),
            "<td class=\"n\">&lt;script&gt;a&amp;b&lt;/script&gt; &quot;&#39;\\u{1b}[2J\\u{202e}\\u{0}</td>"
        );
        assert_eq!(Markup::text("é".repeat(1000)).to_string(), "é".repeat(LONGEST) + "…");
    }

    #[test]
    fn a_graph_has_nothing_but_numbers() {
        let graph = Markup::graph(&[vec![(1.0, 2.0), (3.0, 4.56)], vec![]], 300.0, 60.0).to_string();
        assert!(graph.contains("<path d=\"M1 60L1 2.0L3 4.6L3 60\">"), "{graph}");
    }
}
