"""Reports: leaderboards as text for people, papers and programs."""
