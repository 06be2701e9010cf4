export const HELP = `Usage: npm start -- [options]

Sends the same work through the openai package twice and compares:
  standard   one backend (the first of the lowest priority number), the package's own retries
  balanced   all backends, through openai-priority-loadbalancer

Without options it needs no account and no network: three simulated Azure OpenAI backends on
loopback (priorities 1, 2, 2), about 20 seconds. The report goes to stdout, everything else to stderr.

Real instances (this costs money: 20 requests a run unless you ask for more)
  --backends FILE      JSON file, as for OPENAI_LOADBALANCER_CONFIG:
                       {"backends": [{"url": "https://...", "priority": 1, "apiKey": {"env": "KEY"}}, ...]}
  Without --backends the environment is looked at:
    OPENAI_LOADBALANCER_CONFIG   name of such a file
    BACKEND_1_URL, BACKEND_1_PRIORITY (default 1), BACKEND_1_API_KEY or BACKEND_1_BEARER_TOKEN,
    BACKEND_2_URL, ...           one group for each backend

What is asked
  --model NAME         model, in the body (URLs end in /openai/v1 or /v1); default gpt-4o
  --deployment NAME    Azure deployment, in the path (URLs without /openai)
  --api-version V      with --deployment; default 2024-10-21

How much
  --requests N         number of calls in each run
  --rate N             calls per second; default 2 for real instances
  --load X             instead of --rate: share of the simulator's capacity; default 0.85
  --duration S         seconds in which calls are started; default 9
  --concurrency N      calls in flight at most; default 1000
  --seed N             arrivals and prompts; default 1

What is compared
  --compare pacing     unpaced and paced, both balanced; default --load 0.8 --duration 60
  --unpaced            the balanced run without pacing
  --max-wait-ms N      how long the balancer may hold a call when all backends are throttled; default 0

Output
  --out FILE           where the timeline (SVG) goes; default a new folder among the temporary files
  --json               the report as JSON
  --quiet              no progress on stderr
  --verbose            the balancer's own log on stderr
  -h, --help           this text

Exit codes: 0 done; 1 a run failed (an error, or not one call answered); 2 wrong use; 130 after Ctrl-C.
Ctrl-C stops sending, tidies up and reports what there is; a second one exits at once.
`
