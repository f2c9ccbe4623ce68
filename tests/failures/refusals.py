"""Refusals that people have reported, or that SDK sources name: (report, status, body), by what a caller should do.

Codes, field names and statuses are as reported; sentences are shortened, or in other words.
A status of `None` is an error that came in-band. A body that is a string came as text.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

Refusal: TypeAlias = tuple[str, int | None, Any]


def openai(message: str, type: str | None = None, code: str | int | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


def anthropic(type: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_1"}


def google(code: int, status: str, message: str, reason: str | None = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if reason:
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        error["details"] = [{"@type": kind, "reason": reason, "domain": "googleapis.com"}]
    return {"error": error}


def aws(type: str, message: str) -> dict[str, Any]:
    return {"__type": f"com.amazon.coral.service#{type}", "message": message}


def problem(status: int, title: str, detail: str) -> dict[str, Any]:
    return {"status": status, "title": title, "detail": detail}


_OAUTH2 = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
_EXPIRY = (
    "The access token expiry UTC time '5/7/2025 3:12:30 PM' is earlier than current UTC time '5/7/2025 3:25:54 PM'."
)
_SECURITY = "The security token included in the request is"

AUTH: list[Refusal] = [
    ("anthropic: key", 401, anthropic("authentication_error", "invalid x-api-key")),
    ("anthropic: bearer", 401, anthropic("authentication_error", "Invalid bearer token")),
    ("claude-code#6590: expired", 401, anthropic("authentication_error", "OAuth token has expired. Obtain a new one")),
    ("claude-code#9635: revoked", 403, anthropic("permission_error", "OAuth token has been revoked.")),
    ("anthropic: in-band", None, anthropic("authentication_error", "OAuth token has expired.")),
    ("kimi: 401", 401, anthropic("authentication_error", "The API Key appears to be invalid or may have expired.")),
    ("moonshot: 401", 401, openai("Invalid Authentication", "invalid_authentication_error")),
    ("openai: key", 401, openai("Incorrect API key provided: sk-a***b.", "invalid_request_error", "invalid_api_key")),
    ("codex#2522: detail", 401, {"detail": {"code": "token_expired", "message": "Provided token is expired."}}),
    ("CLIProxyAPI#3654", 401, openai("Your token has been invalidated.", "invalid_request_error", "token_invalidated")),
    ("openai: in-band", None, openai("Your authentication token has been invalidated.", "invalid_request_error")),
    ("openai: in-band code", None, openai("Sign in again", "invalid_request_error", "token_revoked")),
    ("BetterChatGPT#419", 401, openai({"code": "token_expired", "message": "Sign in again."}, "401 Unauthorized")),  # type: ignore[arg-type]
    ("plainbook#25: expired", 400, google(400, "INVALID_ARGUMENT", "API key expired. Renew it.", "API_KEY_INVALID")),
    ("gemini-cli#4690", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")),
    ("sub2api#1709", 400, google(400, "INVALID_ARGUMENT", "API Key not found. Pass a valid one", "API_KEY_INVALID")),
    ("continue#11336: JSON in the message", 400,
     openai(json.dumps(google(400, "INVALID_ARGUMENT", "API key expired.", "API_KEY_INVALID")), None, 400)),
    ("gemini-cli#29275", 401, google(401, "UNAUTHENTICATED", _OAUTH2, "ACCESS_TOKEN_TYPE_UNSUPPORTED")),
    ("vertex: expired, in a list", 401, [google(401, "UNAUTHENTICATED", _OAUTH2, "ACCESS_TOKEN_EXPIRED")]),
    ("vertex: in-band", None, google(401, "UNAUTHENTICATED", _OAUTH2)),
    ("claude-code#28032: bedrock", 403, aws("ExpiredTokenException", f"{_SECURITY} expired")),
    ("claude-code#2260: bedrock, words alone", 403, {"message": f"{_SECURITY} invalid."}),
    ("openinference#2358", 403, aws("UnrecognizedClientException", f"{_SECURITY} invalid.")),
    ("aws-sdk-go#253", 400, aws("RequestExpired", "Request has expired.")),
    ("aws: sts", 403, {"Error": {"Code": "InvalidClientTokenId", "Message": f"{_SECURITY} invalid"}}),
    ("cfn-sphere#55", 403, {"Error": {"Type": "Sender", "Code": "ExpiredToken", "Message": f"{_SECURITY} expired"}}),
    ("opencode#47073: bedrock key", 403, {"Message": "Authentication failed: Please make sure your API Key is valid."}),
    ("bedrock: bearer", 403, {"Message": "Bearer Token has expired"}),
    ("kiro2cc#13", 403, {"message": "The bearer token included in the request is invalid.", "reason": None}),
    ("Kiro#4935", 403, aws("AccessDeniedException", "The bearer token included in the request is invalid.")),
    ("foundry-for-vscode#20: azure", 401, {"error": {"code": "ExpiredAuthenticationToken", "message": _EXPIRY}}),
    ("azure: expiry, under 403", 403, {"error": {"code": "AuthorizationFailed", "message": _EXPIRY}}),
    ("azure: token", 401, {"error": {"code": "InvalidAuthenticationToken", "message": "The access token is invalid."}}),
    ("azure-search-openai-demo#458", 401, {"statusCode": 401, "message": "Unauthorized. Access token is missing"}),
    ("BotSharp#386", 401, openai("Access denied due to invalid subscription key or wrong API endpoint.", None, "401")),
    ("gsd-2#4553: copilot", 401, "IDE token expired: unauthorized: token expired"),
    ("copilot: bad credentials", 401, {"message": "Bad credentials", "status": "401"}),
    ("qwen-code#1919", 401,
     openai("invalid access token or token expired", "invalid_request_error", "invalid_api_key")),
    ("dashscope", 401, {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "1"}),
    ("dashscope: in-band", None, {"code": "InvalidApiKey", "message": "Invalid API-key provided."}),
    ("databricks.vsts.tools#26", 403, {"error_code": 403, "message": "Invalid access token."}),
    ("databricks-vscode#583", 403,
     {"error_code": "", "message": "Token is expiring within 30 seconds. (token expired)"}),
    ("databricks: unauthenticated", 401, {"error_code": "UNAUTHENTICATED", "message": "No credentials are valid."}),
    ("duckle#22: snowflake", 401, {"code": "390144", "message": "JWT token is invalid. [7fb8]"}),
    ("rb-snowflake-client#170", 401, {"code": "390198", "message": "Keypair access token expired. ...V"}),
    ("gosnowflake#160: in-band", None, {"code": "390114", "message": "Authentication token has expired."}),
    ("integration_openai#332: mistral", 401, {"detail": "Unauthorized"}),
    ("cline#1734: mistral", 401, {"message": "Unauthorized", "request_id": "c61f"}),
    ("cohere-toolkit#857", 401, {"message": "invalid api token"}),
    ("cohere: in-band", None, {"message": "invalid api token"}),
    ("transformers#38289: hf", 401, {"error": "Invalid credentials in Authorization header"}),
    ("mcp-course#55: hf", 401, {"error": "Invalid username or password."}),
    ("litellm#18731: proxy", 400, openai("Authentication Error - Expired Key.", "expired_key", "400")),
    ("litellm#24680: proxy", 401, openai("Authentication Error, Invalid proxy token", "token_not_found_in_db", "401")),
    ("codex#1352: xai", 400,
     {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: sk***gA."}),
    ("beeai-framework#447: xai, percent-encoded", 400,
     {"code": "Client specified an invalid argument", "error": "Incorrect%20API%20key%20provided:%20ba***na."}),
    ("py-gpt#112: deepseek", 401, openai("Authentication Fails", "authentication_error", "invalid_request_error")),
    ("groq", 401, openai("Invalid API Key", "invalid_request_error", "invalid_api_key")),
    ("cerebras", 401, {"message": "Wrong API Key", "type": "invalid_request_error", "code": "wrong_api_key"}),
    ("claude-code-router#227: openrouter", 401, {"error": {"message": "No auth credentials found", "code": 401}}),
    ("opencode#14252: openrouter", 401, {"error": {"message": "User not found.", "code": 401}}),
    ("opencode#14252: in-band", None, {"error": {"message": "User not found.", "code": 401}}),
    ("openclaude#1303", 401, openai("Invalid API key", "authentication_error", "api_key_invalid")),
    ("litellm#9219: watsonx", 401,
     {"errors": [{"code": "authentication_token_expired", "message": "expired"}], "trace": "1", "status_code": 401}),
    ("watsonx: in-band", None, {"errors": [{"code": "authentication_token_expired", "message": "expired token"}]}),
    ("cloudflare", 401, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}),
    ("cloudflare: in-band", None, {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}),
    ("zhipuai-sdk-python-v4#8", 401, {"error": {"code": "1003", "message": "Authorization Token已过期"}}),
    ("zhipuai-sdk-python#25", None, {"error": {"code": "401", "message": "令牌已过期或验证不正确"}}),
    ("MiniMax-01#37", None, {"base_resp": {"status_code": 2049, "status_msg": "invalid api key"}}),
    ("volcengine", 401, openai("The API key in the request is missing", "Unauthorized", "AuthenticationError")),
    ("apigee", 401,
     {"fault": {"faultstring": "Access Token expired", "detail": {"errorcode": "access_token_expired"}}}),
    ("RFC 6750", 401, {"error": "invalid_token", "error_description": "The access token expired"}),
    ("RFC 6750: in-band", None, {"error": "invalid_token", "error_description": "The access token expired"}),
    ("replicate", 401, problem(401, "Unauthenticated", "You did not pass a valid authentication token")),
    ("spring", 401, {"timestamp": "2026", "status": 401, "error": "Unauthorized", "path": "/v1"}),
    ("code and msg", None, {"code": 401, "msg": "please log in again"}),
    ("error_type and error_message", None, {"error_type": "authentication_error", "error_message": "no"}),
    ("error.error", None, {"error": {"error": {"type": "authentication_error", "message": "no"}}}),
    ("oci-designer#203", 401, {"code": "NotAuthenticated", "message": "Information was missing.", "status": 401}),
    ("oracle: in-band", None, {"code": "NotAuthenticated", "message": "Information was missing."}),
    ("ai-sdk-java#162: sap", 401, "Jwt is expired"),
    ("cerb#836: salesforce", 401, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]),
    ("salesforce: in-band", None, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]),
    ("todoist-mcp#366: HTTP 200", None, {"message": "Todoist API request failed (HTTP 401). Verify your API token."}),
    ("baidu", None, {"error_code": 110, "error_msg": "Access token invalid or no longer valid"}),
    ("botocore: text", None, "An error occurred (ExpiredTokenException) when calling the Converse operation: no"),
    ("fastapi", None, {"detail": "Could not validate credentials"}),
    ("choices: null", None, {"choices": None, "error": {"code": 401, "message": "no"}}),
    ("a list as detail", None, {"detail": [{"type": "token_expired", "msg": "log in"}]}),
    ("a sentence as error", None, {"error": "Your access token has expired"}),
    ("claude-code-router#142", 401, openai("Error from provider: " + json.dumps(openai("no", "authentication_error")))),
]  # fmt: skip

_ORG = "OAuth authentication is currently not allowed for this organization."

REFUSED: list[Refusal] = [
    ("home-assistant#120072: region", 403, openai("Country, region, or territory not supported", "request_forbidden",
                                                  "unsupported_country_region_territory")),
    ("region, in-band", None, openai("no", "request_forbidden", "unsupported_country_region_territory")),
    ("aider#1903: model", 403, openai("Project `p` does not have access to model `m`", None, "model_not_found")),
    ("codex#1000", 401, openai("Header should match organization for API key", None, "mismatched_organization")),
    ("OpenHands#2562", 401, openai("You must be a member of an organization to use the API.", None, "no_organization")),
    ("WISE#9", 401, openai("The account of this key has been deactivated", None, "account_deactivated")),
    ("codex#33664: scopes", 401, openai("You have insufficient permissions. Missing scopes: api.responses.write")),
    ("openai: address", 401, openai("Your IP is not authorized.", "invalid_request_error", "ip_not_authorized")),
    ("claude-code#6752: policy", 401, anthropic("authentication_error", _ORG)),
    ("claude-code#13724: scope", 403, anthropic("permission_error", "OAuth token does not meet scope requirement x")),
    ("CLIProxyAPI#2442", 400, anthropic("invalid_request_error", "This organization has been disabled.")),
    ("anthropic: credit", 400, anthropic("invalid_request_error", "Your credit balance is too low")),
    ("anthropic: not found", 404, anthropic("not_found_error", "model: m")),
    ("anthropic: too large", 413, anthropic("request_too_large", "Request exceeds the maximum size")),
    ("anthropic: permission, in-band", None, anthropic("permission_error", "no")),
    ("gemini-cli#1614", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")),
    ("vertex-ai-samples#476", 403, google(403, "PERMISSION_DENIED", "API has not been used in p", "SERVICE_DISABLED")),
    ("gemini-php#4", 403, google(403, "PERMISSION_DENIED", "Permission 'predict' denied", "IAM_PERMISSION_DENIED")),
    ("vertex: scopes", 403, google(403, "PERMISSION_DENIED", "no", "ACCESS_TOKEN_SCOPE_INSUFFICIENT")),
    ("training-data-analyst#1811", 403, google(403, "PERMISSION_DENIED", "Denied on resource", "CONSUMER_INVALID")),
    ("google: key blocked", 403, google(403, "PERMISSION_DENIED", "are blocked.", "API_KEY_SERVICE_BLOCKED")),
    ("antigravity-auth#441", 403, google(403, "PERMISSION_DENIED", "The caller does not have permission")),
    ("gemini: leaked", 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked.")),
    ("gemini: argument", 400, google(400, "INVALID_ARGUMENT", "Unable to submit request: invalid token count")),
    ("our-chat#3: bedrock", 403, aws("AccessDeniedException", "You don't have access to the model with that ID.")),
    ("bedrock: iam", 403, aws("AccessDeniedException", "arn is not authorized to perform: bedrock:InvokeModel")),
    ("workshop#100", 403, aws("AccessDeniedException", "Your account is not authorized to invoke this API operation.")),
    ("bedrock: iam, in-band", None, aws("AccessDeniedException", "arn is not authorized to perform: InvokeModel")),
    ("bedrock: validation", 400, aws("ValidationException", "Malformed input request")),
    ("bedrock: model", 404, aws("ResourceNotFoundException", "Model use case details have not been submitted")),
    ("PromptWizard#18: azure", 401, openai("Principal does not have access to Operation.", None, "PermissionDenied")),
    ("azure-sql-db-chatbot#3", 403, openai("Access denied due to Virtual Network/Firewall rules.", None, "403")),
    ("azure: deployment", 404, openai("The API deployment does not exist", None, "DeploymentNotFound")),
    ("azure: filter", 400, openai("The response was filtered", None, "content_filter")),
    ("councilof-ai#1102: hf", 403, {"error": "It does not have sufficient permissions to call Inference Providers"}),
    ("hf: gated", 403, {"error": "Access to this model is restricted and you are not in the authorized list."}),
    ("copilot-cli#18", 403, "unauthorized: not authorized to use this Copilot feature"),
    ("copilot-cli#46", 401, "unauthorized: Personal Access Token does not have Copilot Requests permission"),
    ("copilot-cli#155", 403, "forbidden: access denied"),
    ("botocore: text", None, "An error occurred (AccessDeniedException) when calling the Converse operation: no"),
    ("azure: tenant", 401, {"message": "Token tenant t does not match resource tenant"}),
    ("a plan, in text", None, "401 Unauthorized: model m is not available in your region"),
    ("serene-pub#78: cloudflare", 403, "<html><title>Attention Required! | Cloudflare</title> You are blocked"),
    ("oci-cli#485", 404, {"code": "NotAuthorizedOrNotFound", "message": "Authorization failed or not found."}),
    ("claude-code#92518: mcp", 403, {"error": {"code": -32600, "message": "Insufficient scope: x required"}}),
    ("a scope, in-band", None, {"error": {"code": -32600, "message": "Insufficient scope: x required"}}),
    ("a trial", 401, {"error": "Your free trial has expired. Add a payment method."}),
    ("github", 403, {"message": "Resource not accessible by integration", "status": "403"}),
    ("kimi: K3", 401, anthropic("authentication_error", "Your current subscription does not have access to K3")),
    ("kimi: 256k", 401, openai("current plan supports only kimi-k3 up to 256k context")),
    ("moonshot: quota", 429, openai("Your account is suspended, check your plan", "exceeded_current_quota_error")),
    ("openai: quota", 429, openai("You exceeded your current quota", "insufficient_quota", "insufficient_quota")),
    ("codex: usage limit", 429, openai("The usage limit has been reached", "usage_limit_reached")),
    ("openclaude#1303: openrouter", 402, openai("Insufficient credits.", "upstream_error", "402")),
    ("openrouter: moderation", 403, {"error": {"message": "Your input was flagged", "code": 403}}),
    (
        "OmniRoute#3044",
        400,
        {"error": {"message": "Provider returned error", "code": 400,
                   "metadata": {"raw": json.dumps(openai("at most 1 image", "invalid_request_error"))}}},
    ),
    ("deepseek: balance", 402, openai("Insufficient Balance", "unknown_error", "invalid_request_error")),
    ("xai: permission", 403, {"code": "The caller does not have permission to execute this", "error": "no credits"}),
    ("LLMSearchPlus#2: xai", 400, {"code": "Client specified an invalid argument", "error": "expects one `text`"}),
    ("databricks: permission", 403, {"error_code": "PERMISSION_DENIED", "message": "User lacks CAN_QUERY."}),
    ("cloudflare: route", 404, {"success": False, "errors": [{"code": 7003, "message": "Could not route to /v1"}]}),
    ("mistral: 422", 422, {"detail": [{"loc": ["body", "model"], "msg": "field required", "type": "value_error"}]}),
    ("litellm#39660: model", 403, openai("key not allowed to access model.", "key_model_access_denied", "403")),
    ("litellm: model, in-band", None, openai("key not allowed to access model.", "auth_error")),
    ("litellm: budget", 400, openai("Budget has been exceeded! Current cost: 26", "budget_exceeded", "400")),
    ("truefoundry#949", 403, openai("User u is not authorized to access model m", "AuthorizationError")),
    ("SuperClaude#455: jina", 401, problem(401, "Unauthorized", "Organization is deactivated.")),
    ("llama.cpp: context", None, {"error": {"code": 400, "type": "exceed_context_size_error", "message": "too long"}}),
    ("openai: context", 400, openai("maximum context length is 8192 tokens", None, "context_length_exceeded")),
    ("openai: context, in-band", None, openai("8192 tokens", "invalid_request_error", "context_length_exceeded")),
    ("groq: restricted", 400, openai("Organization has been restricted.", None, "organization_restricted")),
    ("RFC 6750: scope", 403, {"error": "insufficient_scope", "error_description": "It lacks the required scope"}),
    ("RFC 6750: scope, in-band", None, {"error": "insufficient_scope"}),
    ("nest: forbidden", 403, {"statusCode": 403, "message": "Forbidden resource", "error": "Forbidden"}),
    ("not allowed to, in-band", None, {"message": "You are not allowed to access this resource"}),
    ("lacks the required role", 401, {"message": "Unauthorized: the user lacks the required role"}),
    ("a word about tokens", None, {"message": "Unexpected token < in JSON at position 401"}),
    ("HTML", 404, "<html><title>404 Not Found</title></html>"),
]  # fmt: skip

TRANSIENT: list[Refusal] = [
    ("anthropic: overloaded", 529, anthropic("overloaded_error", "Overloaded")),
    ("anthropic: overloaded, in-band", None, anthropic("overloaded_error", "Overloaded")),
    ("anthropic: rate limit", 429, anthropic("rate_limit_error", "This request would exceed the rate limit")),
    ("anthropic: api error, in-band", None, anthropic("api_error", "Internal server error")),
    ("openai: server", 500, openai("The server had an error", "server_error")),
    ("openai: rate limit, in-band", None, openai("Rate limit reached for m", "tokens", "rate_limit_exceeded")),
    ("openai: overloaded", 503, openai("The engine is currently overloaded", "service_unavailable")),
    ("kimi: engine", 429, openai("The engine is currently overloaded", "engine_overloaded_error")),
    ("claude-code-router#1011: gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded.")),
    ("gemini: unavailable, in-band", None, google(503, "UNAVAILABLE", "The model is overloaded.")),
    ("gemini: internal", 500, google(500, "INTERNAL", "An internal error has occurred.")),
    ("gemini: exhausted", 429, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted")),
    ("bedrock: throttling", 429, aws("ThrottlingException", "Too many requests, please wait")),
    ("bedrock: throttling, in-band", None, aws("ThrottlingException", "Too many requests, please wait")),
    ("bedrock: unavailable", 503, aws("ServiceUnavailableException", "Bedrock is unable to process your request")),
    ("bedrock: stream, in-band", None, aws("ModelStreamErrorException", "An error occurred while streaming")),
    ("azure: 429", 429, openai("Requests have exceeded the call rate limit", None, "429")),
    ("mistral: 429", 429, {"message": "Requests rate limit exceeded", "request_id": "1"}),
    ("computer#293: openrouter", 429, {"error": {"message": "Provider returned error", "code": 429,
                                                 "metadata": {"raw": "temporarily rate-limited upstream"}}}),
    ("openrouter: in-band", None, {"choices": None, "error": {"message": "Provider returned error", "code": 502}}),
    ("hf: loading", 503, {"error": "Model m is currently loading", "estimated_time": 20.0}),
    ("databricks: limit", 429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "Exceeded the rate limit"}),
    ("gateway: quotes a 401", 502, openai("upstream gateway said 401 Unauthorized: token expired")),
    ("cloudflare: HTML", 524, "<html><title>524: A timeout occurred</title></html>"),
    (
        "generative-ai-python#117: gRPC quotes a token",
        None,
        "<AioRpcError of RPC that terminated with: status = StatusCode.UNAVAILABLE details = 'invalid_grant: "
        "Token has been expired or revoked.'>",
    ),
]  # fmt: skip
