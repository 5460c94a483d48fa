"""Making and checking data: the embedded city, later the doctor, the label laboratory, the cache."""
