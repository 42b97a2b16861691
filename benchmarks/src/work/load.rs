use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::spec::{Failure, Ids, Sample, Spec};
use crate::subjects::Subject;
use crate::worker::Start;

/// Each task acquires and releases, again and again. A pair counts with the time from the call to the end of the release.
pub(crate) async fn load(subject: Arc<impl Subject>, spec: &Spec, ids: Ids, millis: u64) -> Result<Sample, Failure> {
    let length = Duration::from_millis(millis);
    // Statements are prepared, connections opened and pages of memory touched before it counts.
    rush(&subject, spec, Ids::Reused, Instant::now() + length.min(Duration::from_millis(150)), "warm-up").await?;
    let mut sample = Sample::default();
    let running = Start.wait()?;
    let times = rush(&subject, spec, ids, running.begun + length, "run").await?;
    running.end(&mut sample)?;
    times.into_iter().flatten().for_each(|time| sample.record(time));
    Ok(sample)
}

async fn rush(
    subject: &Arc<impl Subject>,
    spec: &Spec,
    ids: Ids,
    end: Instant,
    phase: &'static str,
) -> Result<Vec<Vec<u64>>, Failure> {
    // All tasks are there before the first begins.
    let (start, started) = watch::channel(false);
    let tasks: Vec<_> = (0..spec.tasks)
        .map(|task| {
            let (subject, process, mut started) = (Arc::clone(subject), spec.process, started.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                started.wait_for(|started| *started).await?;
                for number in 0_u64.. {
                    let id = match ids {
                        Ids::Fresh => id(process, task, number, phase),
                        Ids::Reused => id(process, task, 0, phase),
                    };
                    let begun = Instant::now();
                    if begun >= end {
                        break;
                    }
                    subject.hold(task, &id, false, async || ()).await?;
                    times.push(u64::try_from(begun.elapsed().as_nanos())?);
                }
                Ok::<_, Failure>(times)
            })
        })
        .collect();
    start.send(true)?;
    let mut times = Vec::with_capacity(tasks.len());
    for task in tasks {
        times.push(task.await??);
    }
    Ok(times)
}

/// An id that is nowhere near the one before it: in an index, ids that rise would always meet the same page.
fn id(process: usize, task: usize, number: u64, phase: &str) -> String {
    let mixed = ((task as u64) << 40 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}-{phase}-{process}-{task}")
}
