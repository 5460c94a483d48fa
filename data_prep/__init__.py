"""Making and checking data: the embedded city, the doctor, the authors' files."""
