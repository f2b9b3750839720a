//! `ostler help [TOPIC]`: everything, or what there is to say of one command, one option or one heading.

use super::grammar;
use crate::{
    exit::Failure,
    options::{self, GROUPS, Kind, SETTINGS, Setting, nearest},
};

/// A topic is written as it is typed elsewhere: `reload`, `--graceful-timeout`, `graceful_timeout`, `-w`, `logs`.
pub fn help(topic: Option<&str>) -> Result<String, Failure> {
    let mut all = grammar::command();
    let Some(topic) = topic else { return Ok(all.render_long_help().to_string()) };
    let name = topic.trim_start_matches('-').replace('_', "-").to_lowercase();
    all.build();
    if let Some(command) = all.find_subcommand_mut(&name) {
        return Ok(command.render_long_help().to_string());
    }
    if let Some(setting) = SETTINGS.iter().find(|setting| is_called(setting, topic, &name)) {
        return Ok(whole(setting));
    }
    if let Some(group) = GROUPS.iter().position(|group| group.to_lowercase() == name) {
        let lines = SETTINGS.iter().filter(|setting| setting.group == group).map(line);
        return Ok(format!("{}:\n{}", GROUPS[group], lines.collect::<String>()));
    }
    if let Some(why) = options::not_here(&name) {
        return Err(Failure::usage(format!("ostler has no {topic}: {why}")));
    }
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set());
    let commands: Vec<&str> = shown.map(|command| command.get_name()).collect();
    let known = SETTINGS.iter().map(|setting| setting.name).chain(commands);
    let hint = match nearest(&name, known) {
        Some(near) => format!("the nearest topic is {near}"),
        None => "`ostler help` shows everything".into(),
    };
    Err(Failure::usage(format!("there is no help on {topic:?}; {hint}")))
}

fn is_called(setting: &Setting, topic: &str, name: &str) -> bool {
    let letter = topic.strip_prefix('-').and_then(|rest| rest.parse().ok());
    let off = name.strip_prefix("no-").filter(|_| setting.on_by_default());
    setting.name == name
        || off == Some(setting.name)
        || setting.aliases.contains(&name)
        || (letter.is_some() && setting.short == letter)
        || setting.variable() == topic
}

/// `-w, --workers COUNT`, or `--preload[=WORD]` where the flag may stand alone.
pub fn names(setting: &Setting) -> String {
    let letter = setting.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    let value = match setting.kind {
        _ if setting.on_by_default() || setting.name == "app" => String::new(),
        Kind::Switch | Kind::Choice(_, Some(_)) => format!("[={}]", setting.value),
        _ => format!(" {}", setting.value),
    };
    format!("{letter}{}{value}", setting.flag())
}

fn line(setting: &Setting) -> String {
    format!("  {:40}  {}\n", names(setting), setting.help)
}

fn whole(setting: &Setting) -> String {
    format!("{}\n\n{}\n", names(setting), grammar::long_text(setting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_its_help() {
        let help = |topic| help(Some(topic)).unwrap();
        for topic in ["--graceful-timeout", "graceful_timeout", "graceful-timeout", "OSTLER_GRACEFUL_TIMEOUT"] {
            assert!(help(topic).starts_with("--graceful-timeout TIME\n\nHow long"), "{topic}");
        }
        assert!(help("-w").starts_with("-w, --workers COUNT\n"));
        assert!(help("pidfile").starts_with("-p, --pid FILE\n"));
        assert!(help("sendfile").starts_with("--no-sendfile\n"));
        assert!(help("reload").contains("Usage: ostler reload"), "{}", help("reload"));
        assert!(help("completions").contains("Usage: ostler completions"), "{}", help("completions"));
        assert!(help("Logs").contains("--access-logformat FORMAT"));
        assert!(super::help(None).unwrap().contains("--graceful-timeout"));
        for setting in SETTINGS {
            assert!(
                help(setting.name).contains(setting.help) || grammar::command().find_subcommand(setting.name).is_some()
            );
        }
    }

    #[test]
    fn what_is_no_topic_is_told_the_nearest() {
        let refusal = |topic| help(Some(topic)).unwrap_err().message;
        assert_eq!(refusal("relaod"), "there is no help on \"relaod\"; the nearest topic is reload");
        assert_eq!(refusal("xyzzy"), "there is no help on \"xyzzy\"; `ostler help` shows everything");
        assert!(refusal("reuse-port").starts_with("ostler has no reuse-port: its workers share"));
    }
}
