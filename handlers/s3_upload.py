r"""A handler that hands its result out through S3, as image workers do: it uploads it and returns a URL.

Serve it, with a local S3 store beside it (`pip install 'runpod-emulator[s3]'`):

    runpod-emulator serve handlers/s3_upload.py --s3

Try it. The output is a URL at which the file can be read:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"name": "hello.txt", "text": "Hello"}}'

The same with boto3, and a file that is not small:

    curl http://127.0.0.1:8000/v2/local/runsync -H 'Authorization: Bearer any' \
      -d '{"input": {"name": "large.bin", "text": "0123456789", "times": 100000, "with": "boto3"}}'

A job can bring a bucket of its own: put the `s3Config` that the emulator prints beside its `input`.
"""

import io
import os
from typing import Any

import boto3
import runpod
from runpod.serverless.utils import rp_upload


def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Upload the text, under the job's id; the bucket is the job's or the endpoint's."""
    job_input = job["input"]
    content = job_input["text"].encode() * job_input.get("times", 1)
    config = job.get("s3Config") or {
        "accessId": os.environ["BUCKET_ACCESS_KEY_ID"],
        "accessSecret": os.environ["BUCKET_SECRET_ACCESS_KEY"],
        "bucketName": os.environ["BUCKET_NAME"],
        "endpointUrl": os.environ["BUCKET_ENDPOINT_URL"],
    }
    upload = with_boto3 if job_input.get("with") == "boto3" else with_sdk
    return {"url": upload(config, f"{job['id']}/{job_input['name']}", content), "size": len(content)}


def with_sdk(config: dict[str, str], key: str, content: bytes) -> str:
    """Upload with what the SDK has for it; the URL is signed, and good for a week."""
    folder, _, name = key.rpartition("/")
    return rp_upload.upload_in_memory_object(
        name, content, bucket_creds=config, bucket_name=config["bucketName"], prefix=folder
    )


def with_boto3(config: dict[str, str], key: str, content: bytes) -> str:
    """Upload with a client of one's own."""
    client = boto3.client(
        "s3",
        endpoint_url=config["endpointUrl"],
        aws_access_key_id=config["accessId"],
        aws_secret_access_key=config["accessSecret"],
        region_name="us-east-1",
    )
    place = {"Bucket": config["bucketName"], "Key": key}
    client.upload_fileobj(io.BytesIO(content), place["Bucket"], key)
    return client.generate_presigned_url("get_object", Params=place, ExpiresIn=3600)


if __name__ == "__main__":
    runpod.serverless.start({"handler": handler})
