"""Where a kernel runs: finding hubs, proxies of notebook servers, the calling cell, saved pictures."""
