//! Whether the system has room for what is asked for. Less than is needed is refused at the start, before a worker finds out;
//! a bound that cannot be reached is only named, for the site runs with what there is.

use ostler_wire::limits;

use super::Settings;
use crate::options::Options;

/// Threads that surely cannot be had.
pub fn threads_have_room(settings: &Settings) -> Result<(), String> {
    let (workers, threads) = (u64::from(settings.most_workers()), u64::from(settings.boot.worker.threads));
    // Each worker has a stand-by, too; master and template have one thread.
    let tasks = workers * (threads + 1) + 2;
    let user = settings.identity.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |identity| identity.user);
    if let Some((_, limit)) = limits::most_tasks(user).filter(|(most, _)| tasks > *most) {
        return Err(format!("--workers={workers} with {threads} each make {tasks} processes and threads, but {limit}"));
    }
    let stacks = (threads - 1) * limits::thread_stack();
    if let Some(most) = limits::address_space().filter(|most| stacks > *most) {
        return Err(format!("the stacks of {threads} take {stacks} bytes, but RLIMIT_AS is {most}"));
    }
    Ok(())
}

/// The bounds that were given, and that other limits lie below.
pub fn out_of_reach(settings: &Settings, options: &Options) -> Vec<String> {
    let connections = connections_out_of_reach(settings).map(|why| ("worker-connections", why));
    let memory = memory_out_of_reach(settings).map(|why| ("max-memory", why));
    let given = connections.into_iter().chain(memory).filter(|(name, _)| options.is_given(name));
    given.map(|(name, why)| options.failure(name, "", &why).message).collect()
}

fn connections_out_of_reach(settings: &Settings) -> Option<String> {
    let (wanted, descriptors) = (settings.boot.worker.connections, limits::most_descriptors()?);
    let most = limits::for_connections(limits::for_clients(descriptors));
    (u64::from(wanted) > most).then(|| {
        format!("a worker has descriptors for {most} connections, not {wanted}: RLIMIT_NOFILE is {descriptors}")
    })
}

fn memory_out_of_reach(settings: &Settings) -> Option<String> {
    let (workers, each) = (u64::from(settings.most_workers()), settings.boot.worker.max_memory);
    let together = workers.saturating_mul(each);
    let (_, limit) = limits::most_memory().filter(|(most, _)| together > *most)?;
    Some(format!("--workers={workers} with {each} bytes each may take {together}, but {limit}"))
}
