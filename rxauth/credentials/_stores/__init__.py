"""Where credentials are kept: each store excludes other processes, threads and tasks while one of them refreshes."""
