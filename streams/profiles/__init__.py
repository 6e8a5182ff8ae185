"""What users registered with: a sign-up beside what is stored, `user-profiles`, and the store filled again from it."""
