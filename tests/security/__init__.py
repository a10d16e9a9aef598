"""What an attacker tried, by the number of the fault that was found."""
