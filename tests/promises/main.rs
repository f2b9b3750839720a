//! Each promise of the README, tested from outside, in a module of its own. Its name and its first line say what it tests.

mod canaries;
mod cases;
mod configurations;
mod load;
mod pages;

// The site never goes down because of a reload.
mod a_canary_is_seen_beside_the_old_generation;
mod a_canary_serves_beside_the_old_generation;
mod a_canary_that_fails_is_taken_back;
mod a_generation_keeps_its_code;
mod a_release_is_tested_before_it_serves;
mod a_reload_at_work_is_warm;
mod a_reload_is_a_transaction;
mod a_warm_worker_is_shared;
mod an_application_sees_its_tls;
mod an_import_is_shared_where_that_is_safe;

// Answers become shorter, and stay the same.
mod answers_are_compressed;

// Files are served without the application.
mod named_files_are_sent;
mod static_files_are_served;

// No client notices.
mod a_drain_has_a_bound;
mod drains_cost_nothing;
mod foreign_clients_speak_tls;
mod no_client_notices;
mod no_client_notices_a_canary;
mod nobody_notices_an_upgrade;
mod proxies_lose_nothing;
mod rolling_deploys_lose_nothing;
mod workers_are_recycled;

// No request waits while a worker is idle.
mod a_frozen_worker_is_noticed;
mod no_client_holds_up_others;
mod no_request_waits;
mod slow_and_greedy_clients_are_refused;
mod the_queue_is_seen;
mod workers_as_many_as_wanted;

// The application sees exactly PEP 3333.
mod a_changed_file_reloads_the_site;
mod a_client_is_not_trusted;
mod a_proxy_is_trusted_for_what_it_sets;
mod a_uwsgi_ini_is_migrated;
mod a_worse_release_is_taken_back;
mod cases_hold_under_each_pair_of_options;
mod connections_from_proxies;
mod connections_within_tls_move;
mod error_pages_tell_nothing_of_the_server;
mod gunicorn_s_configuration_is_obeyed;
mod gunicorn_s_users_move_in_one_line;
mod http_and_wsgi;
mod no_block_is_held_back;
mod no_broken_body_is_taken_for_whole;
mod only_clean_requests_reach_the_application;
mod programs_embed_gunicorn;
mod responses_are_whole_or_visibly_cut;
mod sites_answer_as_under_gunicorn;
mod the_application_is_served_as_it_is;
mod the_uwsgi_protocol_is_spoken;

// No process that runs Python has the key.
mod certificates_are_renewed;
mod keys_are_kept;

// The application cannot harm the site, nor the machine.
mod a_forked_child_is_no_second_worker;
mod root_follows_no_name;
mod the_application_is_not_trusted;
mod the_master_never_waits;
mod what_is_shared_stays_whole;

// Whatever goes wrong is explained.
mod a_slow_request_is_explained;
mod a_terminal_is_read_by_people;
mod access_logs_are_data;
mod each_command_waits_for_its_outcome;
mod each_request_has_an_id;
mod incidents_are_explained;
mod limits_are_named;
mod logs_reach_a_syslog;
mod mistakes_are_explained;
mod numbers_reach_a_statsd;
mod status_says_what_is_wrong;
mod systemd_hears_the_truth;
mod the_doctor_says_what_is_unwise;
mod the_journal_gets_entries;
mod the_log_is_an_interface;
mod the_page_shows_the_site;
mod the_site_is_seen;
mod top_shows_the_site_live;
mod totals_survive_the_workers;
mod what_an_application_says_is_logged;

// It is simple to run.
mod any_python_serves;
mod every_kind_of_address_is_bound;
mod no_room_uses_one_above_it;
mod options_do_what_they_say;
mod processes_and_signals;
mod python_programs_serve;
mod the_deploy_files_are_true;
mod the_pages_are_whole;
mod two_commands_are_enough;
mod what_is_installed_serves;
