//! Each promise of the daemon, tested from outside: a module for each.

mod cases;
mod pages;

mod backbone_1_two_commands;
mod backbone_2_the_sites;
mod backbone_3_command_line;
mod backbone_4_any_python;
mod backbone_5_processes;
mod backbone_6_http_and_wsgi;
mod backbone_7_logs;
mod bad_input;

mod a_client_is_not_trusted;
mod clean_requests;
mod conformance_4_bodies;
mod conformance_5_responses;
mod conformance_6_slow_and_greedy;
mod conformance_7_error_answers;

mod drains_cost_nothing;
mod no_client_holds_up_others;
mod no_request_waits;

mod supervision_1_reload;
mod supervision_2_rollback;
mod supervision_3_same_code;
mod supervision_4_preload;
mod supervision_5_upgrade;
mod supervision_6_timeouts;
mod supervision_7_recycling;
mod supervision_8_drain;
mod supervision_9_control;
mod supervision_storm;

mod a_frozen_worker_is_noticed;
mod the_queue_is_seen;
mod what_is_shared_stays_whole;

mod a_proxy_is_trusted_for_what_it_sets;
mod addresses;
mod children;
mod limits_are_named;
mod neighbours;
mod option_matrix;
mod root_follows_no_name;
mod service_manager;
mod the_application_is_not_trusted;
mod the_application_is_served_as_it_is;
mod the_master_never_waits;
