"""One kind of job: a detached process with a folder that tells the truth about it.

Files of a job folder (a run, a grid or any other job; other files may lie beside them):

    job.json       what was asked for: the spec, the attempt's number
    log.txt        what the process printed, bounded (older parts in log.head.txt and log.old.txt)
    events.jsonl   what the worker reported, one JSON object a line
    progress.json  the newest progress, small, replaced at most four times a second
    lock           held by the supervisor as long as it lives
    worker.lock    held by the worker as long as it lives
    launch.lock    held by whoever is launching
    process.json   process ids of this attempt, for people; never used to decide whether something lives
    supervisor.log what went wrong with the supervisor itself; not there when nothing did
    payload.json   input of a job that is a function of the studio (studio.jobs.call)
    stop           present when someone asked the job to stop
    result.json, error.json   the worker's last word
    exit.json      how the attempt ended; written last
    reserve        room on disk kept for last words, gone when the attempt is over
    attempts.jsonl how the earlier attempts ended
"""
