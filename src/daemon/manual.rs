//! The man page: clap's part from the table, and what no option says.

use clap_mangen::Man;

use crate::{exit::Exit, options::parser};

/// ostler(1), as troff.
pub fn page() -> String {
    let mut text = Vec::new();
    Man::new(parser::command()).section("1").render(&mut text).expect("writing to memory does not fail");
    let mut page = String::from_utf8(text).expect("the page is made of the table's text");
    page += ".SH \"EXIT STATUS\"\n";
    for (exit, meaning) in Exit::MEANINGS {
        page += &format!(".TP\n\\fB{}\\fR\n{meaning}\n", exit as u8);
    }
    page
}
