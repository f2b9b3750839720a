//! A page as a browser shows it.

use std::process::Command;

use crate::{Folder, installed};

/// The page as Chromium shows it after some seconds of its own time, whoever has signed its certificate; none, with a note in the test's
/// output, where there is no Chromium.
pub fn shown_by_chromium(address: &str) -> Option<String> {
    let chromium = installed("chromium")?;
    let folder = Folder::new();
    let output = Command::new("timeout")
        .args(["--kill-after=5", "300"])
        .arg(chromium)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000", "--dump-dom"])
        .arg("--ignore-certificate-errors")
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .arg(address)
        .env("HOME", folder.path())
        .output()
        .expect("timeout(1) is there");
    let (page, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && page.contains("<body>"), "{page}\n{said}");
    Some(page.into_owned())
}
